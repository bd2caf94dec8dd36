"""DyNet's networks: Dy-mobile, Dy-shuffle, Dy-ResNet18 and Dy-ResNet50, and ShuffleNetV2, parent of one.

Zhang et al., "DyNet: Dynamic Convolution for Accelerating Convolutional Neural Networks", 2020, arXiv 2004.10694,
section 3.3; Ma et al., "ShuffleNet V2", ECCV 2018, arXiv 1807.11164. With kind "static" they are the paper's controls,
Fix-mobile and Fix-shuffle: the same channels, no coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convfold.dynamic.networks.kinds import Kind
from convfold.dynamic.networks.mobilenet import V2_STAGES, Residual
from convfold.dynamic.networks.parts import Chain, Network, stem
from convfold.dynamic.networks.resnet import resnet
from convfold.errors import InvalidArgument

__all__ = ["dy_mobile", "dy_resnet18", "dy_resnet50", "dy_shuffle", "shufflenet_v2"]


def _kind(name: str, num_experts: int | None) -> Kind:
    """The paper's own two; raises InvalidArgument for others: their places in these networks are nobody's."""
    kind = Kind(name, num_experts)
    if name not in ("static", "dynet"):
        raise InvalidArgument(
            "DyNet's networks have no convolutions of this kind",
            got=f"kind={name!r}",
            expected="'dynet', or 'static' for the control with the same channels",
            hint="mobilenet_v2 and resnet take every kind.",
        )
    return kind


def _up(channels: float, by: int) -> int:
    """The next multiple."""
    return -(-int(channels) // by) * by


def dy_mobile(
    num_classes: int = 1000,
    kind: str = "dynet",
    *,
    num_experts: int | None = None,
    in_channels: int = 3,
    width: float = 1.0,
    stem_channels: int = 32,
    stem_stride: int = 2,
    stages: Sequence[tuple[int, int, int, int]] = V2_STAGES,
    head_channels: int = 1280,
) -> Network:
    """Dy-mobile: MobileNetV2 whose blocks do not expand.

    All three convolutions of a block have its C output channels, made a multiple of 6, and the 3x3 has C/6 groups:
    as many multiply-accumulates as the depthwise one of 6C channels, a sixth in each 1x1. `stages` are MobileNetV2's;
    their expansion is not used. Raises InvalidArgument for a kind other than "dynet" and "static".
    """
    chosen = _kind(kind, num_experts)
    channels = int(stem_channels * width)
    begin = stem(in_channels, channels, 3, stem_stride, nn.ReLU6())
    made = []
    for _, base, count, stride in stages:
        outputs = _up(base * width, 6)
        for place in range(count):
            step = stride if place == 0 else 1
            layers = [
                (outputs, 1, 1, 1, nn.ReLU6),
                (outputs, 3, step, outputs // 6, nn.ReLU6),
                (outputs, 1, 1, 1, None),
            ]
            made.append(Residual(Chain(chosen, channels, layers), adds=step == 1 and channels == outputs))
            channels = outputs
    wide = int(head_channels * max(1.0, width))
    head = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
    return Network(begin, made, head, nn.Sequential(nn.Dropout(0.2), nn.Linear(wide, num_classes)))


class Shuffled(nn.Module):
    """A ShuffleNetV2 block: the last 1/`parts` of the channels pass the chain, the others the shortcut, then a shuffle.

    At stride 2 nothing is split: both see all channels and make half of the outputs.
    """

    def __init__(self, kind: Kind, inputs: int, outputs: int, stride: int, parts: int) -> None:
        super().__init__()
        parts = 2 if stride > 1 else parts
        self.parts, self.stride = parts, stride
        right, left = outputs // parts, outputs - outputs // parts
        seen = inputs if stride > 1 else right
        # ShuffleNetV2's 3x3 is depthwise on half of the channels: a quarter in groups of two is as dear.
        groups = right // (parts // 2)
        self.chain = Chain(
            kind, seen, [(right, 1, 1, 1, nn.ReLU), (right, 3, stride, groups, nn.ReLU), (right, 1, 1, 1, nn.ReLU)]
        )
        layers = [(inputs, 3, stride, inputs, None), (left, 1, 1, 1, nn.ReLU)]
        self.shortcut = Chain(Kind(), inputs, layers) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            y = torch.cat((self.shortcut(x), self.chain(x)), 1)
        else:
            kept = x.shape[1] - x.shape[1] // self.parts
            y = torch.cat((x[:, :kept], self.chain(x[:, kept:])), 1)
        dealt: Tensor = y.unflatten(1, (self.parts, -1)).transpose(1, 2).flatten(1, 2)  # type: ignore[no-untyped-call]
        return dealt


def shufflenet_v2(
    num_classes: int = 1000,
    kind: str = "static",
    *,
    num_experts: int | None = None,
    in_channels: int = 3,
    stem_channels: int = 24,
    stem_stride: int = 2,
    channels: Sequence[int] = (116, 232, 464),
    depths: Sequence[int] = (4, 8, 4),
    head_channels: int = 1024,
    parts: int = 2,
) -> Network:
    """ShuffleNetV2 1.0: of every block's channels, 1/`parts` pass its convolutions.

    Raises InvalidArgument for `parts` other than 2 and 4, for channels that do not divide, and for a kind other
    than "dynet" and "static".
    """
    chosen = _kind(kind, num_experts)
    if parts not in (2, 4) or any(width % (parts * parts // 2) for width in channels):
        raise InvalidArgument(
            "the channels of a block do not split so",
            where="parts",
            got=f"parts={parts} of channels {tuple(channels)}",
            expected="2 of even numbers, or 4 of multiples of 8",
        )
    begin = stem(in_channels, stem_channels, 3, stem_stride, nn.ReLU())
    begin.append(nn.MaxPool2d(3, stem_stride, 1))
    made, before = [], stem_channels
    for outputs, depth in zip(channels, depths, strict=True):
        for place in range(depth):
            made.append(Shuffled(chosen, before, outputs, 2 if place == 0 else 1, parts))
            before = outputs
    head = nn.Sequential(nn.Conv2d(before, head_channels, 1, bias=False), nn.BatchNorm2d(head_channels), nn.ReLU())
    return Network(begin, made, head, nn.Linear(head_channels, num_classes))


def dy_shuffle(num_classes: int = 1000, kind: str = "dynet", *, num_experts: int | None = None) -> Network:
    """Dy-shuffle 1.0: ShuffleNetV2 with left and right branch 3:1, the 3x3 in groups of two channels.

    116 channels have no quarter in pairs: they become 120.
    """
    return shufflenet_v2(num_classes, kind, num_experts=num_experts, channels=(120, 232, 464), parts=4)


def dy_resnet18(num_classes: int = 1000, kind: str = "dynet", *, num_experts: int | None = None) -> Network:
    """Dy-ResNet18: every block's convolutions have half of the output channels; the predictor squeezes to C/4."""
    half = (32, 64, 128, 256)
    return resnet(num_classes, kind, num_experts=num_experts, channels=half, squeeze=4)


def dy_resnet50(num_classes: int = 1000, kind: str = "dynet", *, num_experts: int | None = None) -> Network:
    """Dy-ResNet50: as `dy_resnet18`, of bottlenecks."""
    options = {"depths": (3, 4, 6, 3), "channels": (32, 64, 128, 256), "bottleneck": True, "squeeze": 4}
    return resnet(num_classes, kind, num_experts=num_experts, **options)  # type: ignore[arg-type]
