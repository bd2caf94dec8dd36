"""A 1x1 convolution that is stored as its difference from the identity."""

from __future__ import annotations

import torch
from torch import nn

from convfold.algebra import Conv, pointwise

__all__ = ["IdentityBased"]


class IdentityBased(nn.Module):
    """A 1x1 convolution without bias that starts as the identity: ``y = (D + Id) * x``, D = 0 at first."""

    identity: torch.Tensor

    def __init__(self, channels: int, groups: int, dims: int, **placement: object) -> None:
        super().__init__()
        self.groups, self.dims = groups, dims
        width = channels // groups
        self.weight = nn.Parameter(torch.zeros(channels, width, **placement))  # type: ignore[call-overload]
        eye = torch.eye(width, **placement).repeat(groups, 1)  # type: ignore[call-overload]
        self.register_buffer("identity", eye, persistent=False)

    def op(self) -> Conv:
        return pointwise(self.weight + self.identity, None, self.dims, self.groups)
