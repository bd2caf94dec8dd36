"""A path aggregation network: coarse maps go up to the fine ones, and what these become goes down again.

Liu et al., "Path Aggregation Network for Instance Segmentation", CVPR 2018, arXiv 1803.01534; with stacks of 3x3
convolutions as in Rep-PAN of YOLOv6 (arXiv 2209.02976).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.train.networks.parts import conv_unit, repeats, stack, width_of

__all__ = ["UPSAMPLES", "Neck"]

UPSAMPLES = ("transposed", "nearest")
DEPTH = 12


def _upsample(kind: str, channels: int) -> nn.Module:
    """Twice the size: a learned 2x2 of stride 2, or each value four times."""
    if kind == "transposed":
        return nn.ConvTranspose2d(channels, channels, 2, 2)
    if kind == "nearest":
        return nn.Upsample(scale_factor=2, mode="nearest")
    raise InvalidArgument("this is no way to upsample", where="upsample", got=repr(kind), expected=UPSAMPLES)


class Neck(nn.Module):
    """(C3, C4, C5) to (P3, P4, P5) of the same sizes, with `channels` channels.

        t5 = unit(C5),              t4 = unit(stack[up(t5); C4])
        P3 = stack[up(t4); C3],     P4 = stack[down(P3); t4],     P5 = stack[down(P4); t5]

    with [;] a concatenation, `up` transposed or nearest, `down` a 3x3 of stride 2. H and W are multiples of 32.
    Raises InvalidArgument for another `upsample` and for factors that are not positive.
    """

    def __init__(
        self, inputs: tuple[int, int, int], width: float = 0.25, depth: float = 0.33, upsample: str = "transposed"
    ) -> None:
        super().__init__()
        c3, c4, c5 = inputs
        narrow, middle, broad = (width_of(channels, width) for channels in (128, 256, 512))
        count = repeats(DEPTH, depth)
        self.channels: tuple[int, int, int] = (narrow, middle, broad)
        self.reduce5, self.up5 = conv_unit(c5, middle, 1), _upsample(upsample, middle)
        self.merge4 = stack(middle + c4, middle, count)
        self.reduce4, self.up4 = conv_unit(middle, narrow, 1), _upsample(upsample, narrow)
        self.merge3 = stack(narrow + c3, narrow, count)
        self.down3, self.out4 = conv_unit(narrow, narrow, 3, 2), stack(2 * narrow, middle, count)
        self.down4, self.out5 = conv_unit(middle, middle, 3, 2), stack(2 * middle, broad, count)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        c3, c4, c5 = maps
        t5 = self.reduce5(c5)
        t4 = self.reduce4(self.merge4(torch.cat((self.up5(t5), c4), 1)))
        p3 = self.merge3(torch.cat((self.up4(t4), c3), 1))
        p4 = self.out4(torch.cat((self.down3(p3), t4), 1))
        return p3, p4, self.out5(torch.cat((self.down4(p4), t5), 1))
