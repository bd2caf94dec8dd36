"""Pixel shuffle with a factor of its own on each axis, in any dimension."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Shuffle"]


class Shuffle(nn.Module):
    """``y[c, n_1*h + p_1, n_2*w + p_2, ...] = x[(c*n_1 + p_1)*n_2 + p_2 ..., h, w, ...]``.

    (C * prod(n), H, W, ...) -> (C, n_1*H, n_2*W, ...), after leading axes of any number. Equal factors on two axes
    are ``F.pixel_shuffle``, DepthToSpace in ONNX.
    """

    def __init__(self, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        dims = len(self.factors)
        if dims == 2 and self.factors[0] == self.factors[1]:
            return F.pixel_shuffle(x, self.factors[0])
        *lead, channels = x.shape[:-dims]
        size = x.shape[-dims:]
        apart = x.reshape(*lead, channels // prod(self.factors), *self.factors, *size)
        first = len(lead) + 1
        order = [axis for i in range(dims) for axis in (first + dims + i, first + i)]
        mixed = apart.permute(*range(first), *order)
        return mixed.reshape(*mixed.shape[:first], *(n * f for n, f in zip(size, self.factors, strict=True)))

    def extra_repr(self) -> str:
        return "x".join(map(str, self.factors))
