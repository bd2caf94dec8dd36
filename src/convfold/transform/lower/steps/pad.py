"""Padding and cropping as a module."""

from __future__ import annotations

from torch import Tensor, nn

from convfold.algebra import Pads
from convfold.algebra.readings.apply import pad

__all__ = ["Pad"]


class Pad(nn.Module):
    """Pad by ``(lo, hi)`` on each spatial axis in `mode` where positive, crop where negative."""

    def __init__(self, pads: Pads, mode: str = "zeros") -> None:
        super().__init__()
        self.pads, self.mode = pads, mode

    def forward(self, x: Tensor) -> Tensor:
        return pad(x, self.pads, self.mode)

    def extra_repr(self) -> str:
        mode = "" if self.mode == "zeros" else f", {self.mode}"
        return f"{', '.join(map(str, self.pads))}{mode}"
