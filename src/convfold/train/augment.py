"""From pixels to what a network takes: cut, mirrored, scaled. torch's own functions, one generator per image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from convfold.train.images import Part
from convfold.train.seeds import generator

__all__ = ["Shown", "View"]

# The parts that "crop" cuts out: share of the area, and width over height.
_AREA, _RATIO = (0.25, 1.0), (3 / 4, 4 / 3)
_TRIES = 10
# "shift" moves by at most this share of the side.
_MARGIN = 8


@dataclass(frozen=True)
class View:
    """How images are shown to a network: ``x = (pixels / white - mean) / std`` at `size` (height, width).

    Evaluation takes the largest middle part of the right proportions. `augment` is "none"; "shift": padded by an
    eighth of each side with black, then cut at random; "crop": 25 to 100 % of the area, between 3:4 and 4:3 (Szegedy
    et al., 2015, arXiv 1409.4842, section 6). `flip`: left and right exchanged for half of the images. `repeat`: grey
    shown on three channels.
    """

    size: tuple[int, int]
    white: int
    mean: Tensor
    std: Tensor
    augment: str = "none"
    flip: bool = False
    repeat: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """What a network takes: channels, height, width."""
        return (3 if self.repeat else len(self.mean), *self.size)

    def plain(self, picture: Tensor) -> Tensor:
        """One image (C, H, W) as it is tested on, float32."""
        return self._scaled(self._fitted(picture))

    def random(self, picture: Tensor, chance: torch.Generator) -> Tensor:
        """One image as it is trained on: what is random is drawn from `chance`."""
        if self.augment == "crop":
            x = self._resized(_random_part(picture, chance))
        elif self.augment == "shift":
            x = _shifted(self._fitted(picture), chance)
        else:
            x = self._fitted(picture)
        if self.flip and torch.rand((), generator=chance) < 0.5:
            x = x.flip(-1)
        return self._scaled(x)

    def _scaled(self, x: Tensor) -> Tensor:
        scaled = (x / self.white - self.mean) / self.std
        return scaled.expand(3, -1, -1) if self.repeat else scaled

    def _fitted(self, picture: Tensor) -> Tensor:
        height, width = picture.shape[-2:]
        scale = min(height / self.size[0], width / self.size[1])
        h, w = (max(1, round(scale * n)) for n in self.size)
        top, left = (height - h) // 2, (width - w) // 2
        return self._resized(picture[..., top : top + h, left : left + w])

    def _resized(self, picture: Tensor) -> Tensor:
        x = picture.to(torch.float32)
        if x.shape[-2:] == self.size:
            return x
        return F.interpolate(x[None], self.size, mode="bilinear", align_corners=False, antialias=True)[0]


def _shifted(x: Tensor, chance: torch.Generator) -> Tensor:
    height, width = x.shape[-2:]
    rows, columns = max(1, height // _MARGIN), max(1, width // _MARGIN)
    wide = F.pad(x, (columns, columns, rows, rows))
    top, left = (int(torch.randint(2 * n + 1, (), generator=chance)) for n in (rows, columns))
    return wide[..., top : top + height, left : left + width]


def _random_part(picture: Tensor, chance: torch.Generator) -> Tensor:
    height, width = picture.shape[-2:]
    for _ in range(_TRIES):
        share, ratio = torch.rand(2, generator=chance).tolist()
        area = height * width * (_AREA[0] + share * (_AREA[1] - _AREA[0]))
        proportion = math.exp(math.log(_RATIO[0]) + ratio * math.log(_RATIO[1] / _RATIO[0]))
        w, h = round(math.sqrt(area * proportion)), round(math.sqrt(area / proportion))
        if 0 < w <= width and 0 < h <= height:
            top = int(torch.randint(height - h + 1, (), generator=chance))
            left = int(torch.randint(width - w + 1, (), generator=chance))
            return picture[..., top : top + h, left : left + w]
    return picture


class Shown(Dataset[tuple[Tensor, Tensor]]):
    """A part as a network sees it in one epoch; `seed` None for testing.

    The image at `index` is random by (seed, epoch, index) alone: not by the process or the worker that reads it.
    """

    def __init__(self, part: Part, view: View, seed: int | None = None, epoch: int = 0) -> None:
        self.part, self.view, self.seed, self.epoch = part, view, seed, epoch

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture = self.part.picture(index)
        label = self.part.labels[index]
        if self.seed is None or (self.view.augment == "none" and not self.view.flip):
            return self.view.plain(picture), label
        return self.view.random(picture, generator(self.seed, self.epoch, index)), label
