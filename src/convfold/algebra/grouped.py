"""A fully connected layer in groups, which torch has not: what a folded RepMLP runs."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra.operators import Conv
from convfold.algebra.readings.apply import apply

__all__ = ["GroupedLinear"]


class GroupedLinear(nn.Module):
    """``y[g] = W[g] x[g] + b[g]`` for each of `groups` blocks of the features.

    weight (out_features, in_features/groups), bias (out_features,); input (..., in_features). Starts as nn.Linear.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        groups: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.groups = in_features, out_features, groups
        self.weight = nn.Parameter(torch.empty(out_features, in_features // groups, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        bound = 1 / math.sqrt(in_features // groups)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def op(self) -> Conv:
        """A fully connected layer with groups."""
        return Conv(self.weight, self.bias, (), self.groups)

    def forward(self, x: Tensor) -> Tensor:
        return apply(self.op(), x)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, groups={self.groups}, bias={self.bias is not None}"
