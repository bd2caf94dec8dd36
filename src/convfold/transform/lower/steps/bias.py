"""A bias on its own, where the convolution before it may not hold it."""

from __future__ import annotations

from torch import Tensor, nn

from convfold.algebra.readings.apply import per_channel

__all__ = ["AddBias"]


class AddBias(nn.Module):
    """``y[c] = x[c] + b[c]`` on maps (N, C, *spatial) or (C, *spatial) of `dims` spatial axes."""

    def __init__(self, bias: Tensor, dims: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone())
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x + per_channel(self.bias, self.dims)

    def extra_repr(self) -> str:
        return f"{len(self.bias)}"
