"""How many linear maps a layer can express, and how many of its kernel's directions it uses.

Degrees of freedom are the dimension of the set of linear maps that a layer reaches as its parameters vary. A
convolution reaches ``C_out * C_in/g * prod(k)`` (and C_out with a bias). A chain reaches fewer than it has
parameters, because an invertible map between two of its layers can be undone in the next:

    dof(m -> r -> n) = r*m + r*n - r^2                    r <= min(m, n), else m*n

with m = C_in/g * prod(k) of the first layer and n = C_out/g * prod(k) of the second. With groups it holds for
each block of channels that both layers keep together: a separable convolution of multiplier r reaches
``C_in * r * (k*k + C_out - r)``. Branches add up, as far as the window that they fill has room.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, Chain, Concat, Conv, ConvTranspose, Norm, Op, Select, Sum, has_op, op
from convfold.algebra.readings.kernel import kernel
from convfold.errors import InvalidArgument, NotFoldable

__all__ = ["KernelRank", "degrees_of_freedom", "kernel_rank"]


class KernelRank(NamedTuple):
    """Numerical ranks of a kernel's matrices, each with the most that it could be.

    `rows`: C_out/g x (C_in/g * taps), summed over the groups. `separable`: C_out/g x taps of one input channel,
    the largest of them: the depth multiplier at which a depthwise separable convolution is exact.
    """

    rows: int
    full_rows: int
    separable: int
    full_separable: int


def kernel_rank(weight: Tensor, groups: int = 1) -> KernelRank | None:
    """Ranks of a kernel (C_out, C_in/groups, *taps); None on meta tensors, which have no numbers.

    A singular value counts when it is above ``max(rows, columns) * eps * largest``, with the eps of the
    weight's own precision; the values are computed in float64. Raises InvalidArgument when the groups do not
    divide the rows.
    """
    if weight.dim() < 2 or groups < 1 or weight.shape[0] % groups:
        raise InvalidArgument(
            "a kernel's ranks are per group of its rows",
            got=f"a weight of shape {list(weight.shape)} in {groups} groups",
            expected="shape (C_out, C_in/groups, *taps) with C_out a multiple of groups",
        )
    if weight.is_meta:
        return None
    blocks = weight.detach().double().reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    eps = torch.finfo(weight.dtype).eps if weight.is_floating_point() else torch.finfo(torch.float64).eps
    rows, separable = blocks.flatten(2), blocks.transpose(1, 2)
    return KernelRank(
        rows=int(_ranks(rows, eps).sum()),
        full_rows=groups * min(rows.shape[-2:]),
        separable=int(_ranks(separable, eps).max()),
        full_separable=min(separable.shape[-2:]),
    )


def _ranks(matrices: Tensor, eps: float) -> Tensor:
    values = torch.linalg.svdvals(matrices)
    floor = values[..., :1] * (max(matrices.shape[-2:]) * eps)
    above: Tensor = values > floor
    return above.sum(-1)


def degrees_of_freedom(module: nn.Module) -> int:
    """Dimension of the set of maps that `module` expresses; for a module that is not linear its parameters.

    Read from the module's expression, its batch normalisations with running statistics, on meta tensors too.
    Exact for one layer, chains of two, and sums of which one term fills the window; for longer grouped chains
    and overlapping sums an upper bound, never above the number of elements of the equivalent kernel and bias.
    """
    if not has_op(module):
        return _own(module)
    try:
        whole = op(module)
        room = kernel(whole, running=True)
    except NotFoldable:
        return _own(module)
    reached = _reached(whole)
    return min(reached.maps, room.weight.numel()) + min(reached.shifts, whole.out_channels)


def _own(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@dataclass(frozen=True)
class _Reached:
    """Dimensions of the linear part and of the bias."""

    maps: int
    shifts: int


@dataclass(frozen=True)
class _Layer:
    """One trained factor of a chain: its groups, and how many weights meet one channel on either side."""

    channels_in: int
    channels_out: int
    groups: int
    taps: int
    shifts: int

    @property
    def fan_in(self) -> int:
        return self.channels_in // self.groups * self.taps

    @property
    def fan_out(self) -> int:
        return self.channels_out // self.groups * self.taps


def _trained(tensor: Tensor | None) -> bool:
    return tensor is not None and (tensor.requires_grad or isinstance(tensor, nn.Parameter))


def _layer(part: Op) -> _Layer | None:
    if isinstance(part, (Conv, ConvTranspose)) and _trained(part.weight):
        shifts = part.out_channels if _trained(part.bias) else 0
        return _Layer(part.in_channels, part.out_channels, part.groups, prod(part.weight.shape[2:]), shifts)
    if isinstance(part, Norm) and getattr(part.module, "affine", False):
        return _Layer(part.in_channels, part.in_channels, part.in_channels, 1, part.in_channels)
    if isinstance(part, Affine) and _trained(part.scale):
        return _Layer(part.in_channels, part.in_channels, part.in_channels, 1, part.in_channels * _trained(part.shift))
    return None


def _reached(whole: Op) -> _Reached:
    if isinstance(whole, (Sum, Concat)):
        terms = [_reached(term) for term in whole.terms]
        return _Reached(sum(term.maps for term in terms), sum(term.shifts for term in terms))
    return _chain(whole.parts if isinstance(whole, Chain) else (whole,))


def _chain(parts: Sequence[Op]) -> _Reached:
    maps = shifts = 0
    run: list[_Layer] = []
    orders: list[list[int] | None] = []  # where each layer's channels come from in the one before
    order: list[int] | None = None
    for part in parts:
        if isinstance(part, (Sum, Concat)):
            inner = _reached(part)
            maps, shifts = maps + _run(run, orders) + inner.maps, shifts + inner.shifts
            run, orders, order = [], [], None
        elif isinstance(part, Select):
            order = [order[i] for i in part.index] if order else list(part.index)
        elif (layer := _layer(part)) is not None:
            shifts = layer.shifts or min(shifts, layer.channels_out)
            run.append(layer)
            orders.append(order)
            order = None
    return _Reached(maps + _run(run, orders), shifts)


def _run(layers: list[_Layer], orders: list[list[int] | None]) -> int:
    """Dimensions of a chain of layers."""
    if not layers:
        return 0
    layers = list(layers)
    dense = [a.groups == b.groups == 1 and o is None for a, b, o in zip(layers, layers[1:], orders[1:], strict=False)]
    # Between ungrouped layers no more channels matter than what comes before, or after, has room for.
    for i in [*range(len(dense)), *reversed(range(len(dense)))]:
        if dense[i]:
            width = min(layers[i].channels_out, layers[i].fan_in, layers[i + 1].fan_out)
            layers[i] = replace(layers[i], channels_out=width)
            layers[i + 1] = replace(layers[i + 1], channels_in=width)
    first = layers[0].channels_out * layers[0].fan_in
    return first + sum(_joint(a, b, o) for a, b, o in zip(layers, layers[1:], orders[1:], strict=False))


def _joint(before: _Layer, layer: _Layer, order: list[int] | None) -> int:
    """What `layer` adds to a chain that ends in `before`: its weights, less what can be undone between the two."""
    wide_before, wide = before.channels_out // before.groups, layer.channels_in // layer.groups
    sources = order or range(layer.channels_in)
    blocks = Counter((source // wide_before, place // wide) for place, source in enumerate(sources))
    added = 0
    for size in blocks.values():
        rank = min(size, before.fan_in, layer.fan_out)
        added += rank * (before.fan_in + layer.fan_out - rank) - size * before.fan_in
    return added
