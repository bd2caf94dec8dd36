"""What is done to a large picture that the network is to undo: made smaller, with noise, or with moire."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.errors import InvalidArgument

__all__ = ["KINDS", "Degradation", "smaller"]

KINDS = ("bicubic", "noise", "moire")


def smaller(large: Tensor, scale: int) -> Tensor:
    """Pictures (N, C, H, W) made 1 / `scale` as large by Keys' cubic, widened by the scale so that nothing aliases.

    H and W are multiples of `scale`. It is Pillow's BICUBIC, without rounding to 8 bits; Matlab's imresize is the same
    away from the border, where it mirrors the picture and this weighs what is there.
    """
    size = [edge // scale for edge in large.shape[-2:]]
    return F.interpolate(large, size=size, mode="bicubic", antialias=True)


@dataclass(frozen=True)
class Degradation:
    """From large pictures (N, C, s H, s W) in [0, 1] to what the network is given, (N, C, H, W); s = `scale`.

    * "bicubic": ``y = D_s x``, `smaller`; s >= 2.
    * "noise": ``y = D_s x + sigma n``, n standard normal in every value.
    * "moire": ``y = clip((D_s x) (1 + a m_1 m_2), 0, 1)`` with two gratings ``m_k(r) = cos(2 pi f_k . r + p_k)`` of
      nearly one frequency: ``m_1 m_2 = (cos 2 pi (f_1 - f_2) . r + cos 2 pi (f_1 + f_2) . r) / 2`` (phases left out),
      the slow beat that is seen on a photographed screen, and a fast term, which aliases above half a cycle a pixel.
      Of each picture the first frequency is drawn from 0.15 to 0.45 cycles a pixel in any direction, the second turned
      by up to 0.2 rad and scaled by up to 15 %; phases differ by channel, so that colours fringe.

    With s = 1 the picture keeps its size, and noise or moire is all there is to undo. Raises InvalidArgument for other
    kinds, for a scale that leaves nothing to undo, for a strength below zero, and when called with a picture whose
    sides are no multiples of s or without the `generator` that noise and moire are drawn from.
    """

    scale: int = 2
    kind: str = "bicubic"
    sigma: float = 15 / 255
    strength: float = 0.35

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidArgument(
                "there is no such degradation", where="degrade", got=repr(self.kind), expected=", ".join(KINDS)
            )
        least = 2 if self.kind == "bicubic" else 1
        if not isinstance(self.scale, int) or not least <= self.scale <= 8:
            raise InvalidArgument(
                f"there is no {self.kind} degradation at this scale",
                where="scale",
                got=self.scale,
                expected=f"{least} to 8",
            )
        if self.sigma < 0 or self.strength < 0:
            raise InvalidArgument(
                "a degradation has no negative strength", where="degrade", got=min(self.sigma, self.strength)
            )

    def __call__(self, large: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if any(edge % self.scale or not edge for edge in large.shape[-2:]):
            raise InvalidArgument(
                "the sides of a picture are multiples of the scale",
                got=f"{large.shape[-2]}x{large.shape[-1]}",
                expected=f"multiples of {self.scale}",
                hint="Cut the picture.",
            )
        small = large if self.scale == 1 else smaller(large, self.scale)
        if self.kind == "bicubic":
            return small
        if generator is None:
            raise InvalidArgument(f"{self.kind} is drawn at random", where="generator", expected="a torch.Generator")
        if self.kind == "noise":
            return small + self.sigma * torch.randn(small.shape, generator=generator).to(small)
        return (small * (1 + self.strength * _beat(small, generator))).clamp(0, 1)


def _beat(like: Tensor, generator: torch.Generator) -> Tensor:
    """The product of two gratings for each picture and channel, shaped as `like`."""
    count, channels, height, width = like.shape
    draws = torch.rand(count, 4, generator=generator)
    phases = 2 * math.pi * torch.rand(count, channels, 2, generator=generator)
    radius, angle = 0.15 + 0.3 * draws[:, 0], math.pi * draws[:, 1]
    radii = torch.stack([radius, radius * (0.85 + 0.3 * draws[:, 2])], dim=1)
    angles = torch.stack([angle, angle + 0.4 * draws[:, 3] - 0.2], dim=1)
    rows, columns = torch.arange(height).reshape(-1, 1), torch.arange(width)
    waves = [
        torch.cos(
            2
            * math.pi
            * (_spread(radii[:, k] * angles[:, k].sin()) * rows + _spread(radii[:, k] * angles[:, k].cos()) * columns)
            + phases[:, :, k, None, None]
        )
        for k in range(2)
    ]
    return (waves[0] * waves[1]).to(like)


def _spread(values: Tensor) -> Tensor:
    return values.reshape(-1, 1, 1, 1)
