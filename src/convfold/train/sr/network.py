"""A small super-resolution network of 3x3 convolutions: the plain one that every arm starts from and folds to."""

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.transform import expand
from convfold.transform.kinds import find

__all__ = ["Bicubic", "SrNetwork", "sr_arm", "sr_network"]


class SrNetwork(nn.Module):
    """``y = S(conv_d(a(... a(conv_1(x - 1/2)))) + r(x))``: x (N, C, H, W) in [0, 1] to (N, C, s H, s W).

    `depth` convolutions 3x3 with zero padding, a PReLU per channel between them; r repeats each pixel s^2 times over
    the channels and S is the pixel shuffle, so that the convolutions learn what the nearest pixel lacks. It is the
    deployed form of ECBSR (Zhang, Zeng and Zhang, ACM MM 2021) on ESPCN's pixel shuffle (Shi et al., arXiv 1609.05158).
    """

    def __init__(self, scale: int, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.scale = scale
        widths = [channels, *[width] * (depth - 1), channels * scale**2]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.PReLU(outputs)]
        self.body = nn.Sequential(*layers[:-1])
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        repeated = x if x.shape[1] == 1 else x.repeat_interleave(self.scale**2, dim=1)
        large: Tensor = self.shuffle(self.body(x - 0.5) + repeated)
        return large

    @property
    def reach(self) -> int:
        """How many input pixels to each side a pixel's output depends on: one per convolution."""
        return sum(isinstance(layer, nn.PReLU) for layer in self.body) + 1


def sr_network(scale: int = 2, channels: int = 1, width: int = 32, depth: int = 4) -> nn.Module:
    """A plain `SrNetwork` with torch's initial weights, drawn from the global generator.

    `channels` 1 for luminance, 3 for colour; `depth` convolutions, at least 2, `width` channels between them. Scale 1
    restores without enlarging. Raises InvalidArgument for impossible sizes.

    >>> import torch
    >>> sr_network(scale=3, width=8)(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 1, 15, 21])
    """
    least = {"scale": 1, "channels": 1, "width": 1, "depth": 2}
    for name, number in {"scale": scale, "channels": channels, "width": width, "depth": depth}.items():
        if not isinstance(number, int) or number < least[name]:
            raise InvalidArgument(
                "there is no such network",
                where=name,
                got=repr(number),
                expected=f"an integer of at least {least[name]}",
            )
    return SrNetwork(scale, channels, width, depth)


def sr_arm(plain: nn.Module, arm: str) -> nn.Module:
    """The network to train for `arm`: `plain` itself for "plain", else `convfold.expand` of it, computing the same.

    Blocks with batch normalisations get ``norm="scale"``, a learned factor per channel in their place: networks of
    super-resolution do without batch statistics (Lim et al., arXiv 1707.02921), and with factors the expansion computes
    the plain network's function in training mode too. Raises UnknownName for a block that does not exist, and
    InvalidArgument for one that has nothing to add to 3x3 convolutions.
    """
    if arm == "plain":
        return plain
    cls = find(arm, 2)
    options: dict[str, Any] = {"norm": "scale"} if "norm" in inspect.signature(cls).parameters else {}
    return expand(plain, arm, **options)


class Bicubic(nn.Module):
    """Enlarging by Keys' cubic with a = -1/2, as Pillow has it: what takes no network. With scale 1, the input."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        if self.scale == 1:
            return x
        size = [edge * self.scale for edge in x.shape[-2:]]
        # torch's own cubic has a = -3/4; with antialias, which changes nothing else here, a = -1/2.
        return F.interpolate(x, size=size, mode="bicubic", antialias=True)
