"""Channels of zeros, put in and taken out again."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PadChannels", "TakeChannels"]


class _Channels(nn.Module):
    """Maps whose channels are `groups` runs of `narrow`, or of `wide` >= `narrow`, one after the other."""

    def __init__(self, groups: int, narrow: int, wide: int, dims: int) -> None:
        super().__init__()
        self.groups, self.narrow, self.wide, self.dims = groups, narrow, wide, dims

    def _runs(self, x: Tensor, width: int) -> Tensor:
        """(..., g*C, *spatial) -> (..., g, C, *spatial)"""
        channel = x.dim() - self.dims - 1
        return x.reshape(*x.shape[:channel], self.groups, width, *x.shape[channel + 1 :])

    def extra_repr(self) -> str:
        runs = f"{self.groups} x " if self.groups > 1 else ""
        return f"{runs}{self.narrow} of {runs}{self.wide}"


class PadChannels(_Channels):
    """``y[g, c] = x[g, c]`` for c < narrow, else 0."""

    def forward(self, x: Tensor) -> Tensor:
        channel = x.dim() - self.dims - 1
        runs = self._runs(x, self.narrow) if self.groups > 1 else x
        wide = F.pad(runs, [*(0, 0) * self.dims, 0, self.wide - self.narrow])
        return wide.flatten(channel, channel + 1) if self.groups > 1 else wide


class TakeChannels(_Channels):
    """``y[g, c] = x[g, c]``, c < narrow."""

    def forward(self, x: Tensor) -> Tensor:
        channel = x.dim() - self.dims - 1
        if self.groups == 1:
            return x.narrow(channel, 0, self.narrow)
        return self._runs(x, self.wide).narrow(channel + 1, 0, self.narrow).flatten(channel, channel + 1)
