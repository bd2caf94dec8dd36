"""A backbone of 3x3 convolutions that gives maps at three scales.

The structure is EfficientRep's of YOLOv6 (Li et al., arXiv 2209.02976); its RepVGG blocks are plain convolutions here,
which `convfold.expand(model, "repvgg")` turns into them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convfold.train.networks.parts import conv_unit, repeats, stack, width_of

__all__ = ["Backbone", "PyramidPooling"]

CHANNELS = (64, 128, 256, 512, 1024)
DEPTHS = (6, 12, 18, 6)


class PyramidPooling(nn.Module):
    """``unit([h; m(h); m(m(h)); m(m(m(h)))])``, h = unit(x) of half the channels, m a maximum over 5x5 (SimSPPF)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before = conv_unit(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.after = conv_unit(channels // 2 * 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.before(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        out: Tensor = self.after(torch.cat(maps, 1))
        return out


class Backbone(nn.Module):
    """Images (N, in_channels, H, W) to (C3, C4, C5), maps of strides 8, 16 and 32 with `channels` channels.

    `width` and `depth` scale the channels 64 to 1024 and the stacks of 6, 12, 18 and 6 convolutions.
    Raises InvalidArgument where one of them is not positive.
    """

    def __init__(self, in_channels: int = 3, width: float = 0.25, depth: float = 0.33) -> None:
        super().__init__()
        widths = [width_of(channels, width) for channels in CHANNELS]
        self.channels: tuple[int, int, int] = (widths[2], widths[3], widths[4])
        self.stem = conv_unit(in_channels, widths[0], 3, 2)
        steps = zip(widths, widths[1:], DEPTHS, strict=False)
        stages = [
            nn.Sequential(conv_unit(before, after, 3, 2), stack(after, after, repeats(count, depth)))
            for before, after, count in steps
        ]
        self.stage2, self.stage3, self.stage4, self.stage5 = stages
        self.pyramid = PyramidPooling(widths[4])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c3 = self.stage3(self.stage2(self.stem(x)))
        c4 = self.stage4(c3)
        return c3, c4, self.pyramid(self.stage5(c4))
