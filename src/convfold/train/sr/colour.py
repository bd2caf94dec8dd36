"""Luminance and colour differences: what a super-resolution network is given of a colour picture, and the rest."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["joined", "luminance", "parted"]

# ITU-R BT.601, as JPEG has it: full range, no offset.
_WEIGHTS = (0.299, 0.587, 0.114)


def luminance(picture: Tensor) -> Tensor:
    """``Y = 0.299 R + 0.587 G + 0.114 B`` of a picture (H, W, 3) of 0 to 255, as (H, W) in [0, 1] (BT.601)."""
    return picture.float() @ torch.tensor(_WEIGHTS) / 255


def parted(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance (1, H, W) and the colour differences (R - Y, B - Y) (2, H, W) of a picture (3, H, W)."""
    y = sum(weight * plane for weight, plane in zip(_WEIGHTS, picture, strict=True))
    assert isinstance(y, Tensor)
    return y[None], torch.stack([picture[0] - y, picture[2] - y])


def joined(y: Tensor, differences: Tensor) -> Tensor:
    """The inverse of `parted`: ``G = (Y - 0.299 R - 0.114 B) / 0.587`` with R and B from their differences."""
    red, blue = differences + y
    green = (y[0] - _WEIGHTS[0] * red - _WEIGHTS[2] * blue) / _WEIGHTS[1]
    return torch.stack([red, green, blue])
