"""Space to batch: a dilated convolution as a plain one on every d-th position."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn

from convfold.geometry import Axis, Window

__all__ = ["Phases"]


class Phases(nn.Module):
    """``y[d'*m + r] = sum_j K[j] z_r[s'*m + j]`` with ``z_r[t] = x[s*r + d*t]``, along each axis that is dilated.

    With g = gcd(s, d) of stride s and dilation d: d' = d/g phases r, each a map of its own in the batch, and stride
    s' = s/g. `conv` has that stride, no dilation and no padding; `window` says what it stands for. Maps are filled up
    with zeros behind, so that all phases have one size, and the answer is cut to size: exact for any size.
    """

    def __init__(self, window: Window, conv: nn.Module) -> None:
        super().__init__()
        self.window, self.conv = window, conv

    @staticmethod
    def inner(axis: Axis) -> Axis:
        """The axis of the convolution inside."""
        if axis.dilation == 1:
            return axis
        return Axis(axis.kernel, axis.stride // gcd(axis.stride, axis.dilation), 1)

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() == len(self.window) + 1:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        sizes = [(n - axis.span) // axis.stride + 1 for n, axis in zip(input.shape[2:], self.window, strict=True)]
        x = input
        dilated = [i for i, axis in enumerate(self.window) if axis.dilation > 1]
        for i in dilated:
            x = self._apart(x, i, sizes[i])
        y = self.conv(x)
        for i in reversed(dilated):
            y = self._together(y, i, sizes[i])
        return y  # type: ignore[no-any-return]

    def _apart(self, x: Tensor, i: int, out: int) -> Tensor:
        """(N, C, ..., n, ...) -> (d'*N, C, ..., t, ...)"""
        axis, inner, place = self.window[i], self.inner(self.window[i]), i + 2
        phases = axis.dilation // gcd(axis.stride, axis.dilation)
        taken = inner.stride * (-(-out // phases) - 1) + axis.kernel
        reach = axis.dilation * (taken - 1) + 1
        missing = axis.stride * (phases - 1) + reach - x.shape[place]
        if missing > 0:
            behind = (0, 0) * (x.dim() - 1 - place)
            x = nn.functional.pad(x, [*behind, 0, missing])
        starts = [axis.stride * r for r in range(phases)]
        lead = (slice(None),) * place
        return torch.cat([x[(*lead, slice(a, a + reach, axis.dilation))] for a in starts])

    def _together(self, y: Tensor, i: int, out: int) -> Tensor:
        """(d'*N, C, ..., m, ...) -> (N, C, ..., out, ...)"""
        axis, place = self.window[i], i + 2
        phases = axis.dilation // gcd(axis.stride, axis.dilation)
        apart = y.reshape(phases, -1, *y.shape[1:]).movedim(0, place + 1)
        return apart.flatten(place, place + 1).narrow(place, 0, out)

    def extra_repr(self) -> str:
        return f"dilation {'x'.join(str(axis.dilation) for axis in self.window)}"
