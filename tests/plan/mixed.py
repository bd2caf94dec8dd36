"""A network of which some folds and some does not."""

from __future__ import annotations

from typing import Any

from torch import nn

from convfold import blocks
from transform.models import noise, seeded

__all__ = ["X", "mixed"]


def mixed() -> Any:
    """A block, a norm behind its convolution, one before it across a dropout, and one that is left alone."""
    return seeded(
        nn.Sequential(
            blocks.DBBConv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)),
            nn.ReLU(),
            nn.BatchNorm2d(6),
            nn.Dropout(0.5),
            nn.Conv2d(6, 2, 1),
            nn.ReLU(),
            nn.BatchNorm2d(2),
        )
    )


X = noise(2, 3, 9, 9)
