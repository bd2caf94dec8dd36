"""One router for the layers of a block: DyNet's coefficient prediction module, and CondConv's routing per block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from convfold.dynamic.routing import pooled
from convfold.errors import InvalidArgument

__all__ = ["SharedRouter"]


class SharedRouter(nn.Module):
    """``pi_l = sigmoid(R_l * GAP(x))`` for every layer l of a block, from the block's input, by one matrix R.

    `out_channels` are those of the layers; with ``per_channel=True`` (DyNet) layer l gets (N, K, out_channels[l]),
    else (CondConv) all of them get one (N, K). The result is a tuple with one tensor per layer, each to be given as
    ``layer(x, routing=pi)`` to a layer built with ``router=None``.

    Zhang et al., DyNet, 2020, arXiv 2004.10694; for CondConv see its MobileNet blocks, arXiv 1904.04971.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Sequence[int],
        num_experts: int = 6,
        dims: int = 2,
        *,
        per_channel: bool = True,
        **placement: Any,
    ) -> None:
        super().__init__()
        if num_experts < 1 or not out_channels:
            raise InvalidArgument(
                "a shared router serves at least one layer of at least one expert",
                got=f"{len(out_channels)} layers, num_experts={num_experts}",
            )
        self.in_channels, self.num_experts, self.dims = in_channels, num_experts, dims
        self.out_channels, self.per_channel = tuple(out_channels), per_channel
        width = num_experts * (sum(self.out_channels) if per_channel else 1)
        self.last = nn.Linear(in_channels, width, **placement)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        coefficients = torch.sigmoid(self.last(pooled(x, self.dims)))
        if not self.per_channel:
            return (coefficients,) * len(self.out_channels)
        parts = coefficients.split([self.num_experts * width for width in self.out_channels], dim=1)
        return tuple(part.unflatten(1, (self.num_experts, -1)) for part in parts)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, num_experts={self.num_experts}"
