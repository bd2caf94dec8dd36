"""The one definition behind every dynamic convolution: kernels that are mixed anew for each sample.

    y[n] = conv(x[n], sum_k pi[n, k] * W_k) + sum_k pi[n, k] * b_k + c

`pi` has one coefficient per sample and expert (N, K), or one per output channel as well (N, K, C_out), which then
multiplies the rows of each kernel. CondConv (1904.04971), DynamicConv (1912.03458) and DyNet (2004.10694) differ
only in how they get `pi`. Convolution is linear in its kernel, so the same map is

    y[n] = sum_k pi[n, k] * (conv(x[n], W_k) + b_k) + c

The first form is *kernel fusion*, the second *feature fusion*.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convfold.errors import InvalidArgument
from convfold.geometry import Window

__all__ = ["Mixture", "check_routing", "mixed_bias", "mixed_kernels"]


@dataclass(frozen=True, eq=False)
class Mixture:
    """K experts of one window: weight (K, C_out, C_in/groups, *kernel), bias (K, C_out), static bias (C_out,).

    With an empty window the experts are fully connected layers.
    """

    weight: Tensor
    bias: Tensor | None
    static: Tensor | None
    window: Window
    groups: int = 1
    padding_mode: str = "zeros"

    @property
    def dims(self) -> int:
        return len(self.window)

    @property
    def experts(self) -> int:
        return int(self.weight.shape[0])

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[1])

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[2]) * self.groups

    @property
    def is_pointwise(self) -> bool:
        """Whether every output position reads one input position."""
        return all(axis.kernel == 1 for axis in self.window)


def check_routing(mixture: Mixture, routing: Tensor, samples: int, where: str) -> None:
    """Raise InvalidArgument unless `routing` is (N, K) or (N, K, C_out) for this mixture and N samples."""
    per_expert = (samples, mixture.experts)
    if tuple(routing.shape) not in (per_expert, (*per_expert, mixture.out_channels)):
        raise InvalidArgument(
            "the routing does not fit the experts",
            where=where,
            got=f"shape {tuple(routing.shape)}",
            expected=f"{per_expert}, or {(*per_expert, mixture.out_channels)} per output channel",
            hint="A router shared between layers needs as many coefficients as each of them has experts.",
        )


def mixed_kernels(mixture: Mixture, routing: Tensor) -> Tensor:
    """``W[n] = sum_k pi[n, k] * W_k``: one kernel per sample, (N, C_out, C_in/groups, *kernel)."""
    weight, routing = mixture.weight, routing.to(mixture.weight.dtype)
    if routing.dim() == 2:
        mixed = routing @ weight.flatten(1)
    else:
        mixed = torch.einsum("nko,kop->nop", routing, weight.flatten(2))
    return mixed.reshape(-1, *mixture.weight.shape[1:])


def mixed_bias(mixture: Mixture, routing: Tensor) -> Tensor | None:
    """``b[n] = sum_k pi[n, k] * b_k + c``: (N, C_out), (C_out,) where only `c` is there, or None."""
    bias = mixture.bias
    if bias is None:
        return mixture.static
    routing = routing.to(bias.dtype)
    mixed = routing @ bias if routing.dim() == 2 else (routing * bias).sum(1)
    return mixed if mixture.static is None else mixed + mixture.static
