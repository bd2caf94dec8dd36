"""A convolution over maps whose channels come last, where a Linear stood."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["LastAxis"]


class LastAxis(nn.Module):
    """``y[n, ..., o] = conv(x[n, c, ...])``: the channels of (N, *spatial, C) are moved in front and back again."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, input: Tensor) -> Tensor:
        return self.conv(input.movedim(-1, 1)).movedim(1, -1)  # type: ignore[no-any-return]
