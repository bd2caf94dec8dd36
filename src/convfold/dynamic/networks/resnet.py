"""ResNets with any kind of convolution: basic and bottleneck blocks.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385; the stride is in the 3x3 of a
bottleneck, as torchvision has it. With kind "static" they are torchvision's to the last parameter.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from convfold.dynamic.networks.kinds import Kind
from convfold.dynamic.networks.parts import Chain, Network, stem
from convfold.errors import InvalidArgument

__all__ = ["Shortcut", "resnet", "resnet18", "resnet50"]


class Shortcut(nn.Module):
    """``relu(chain(x) + shortcut(x))``; the shortcut is a 1x1 where shapes change, else x itself."""

    def __init__(self, chain: Chain, shortcut: nn.Module) -> None:
        super().__init__()
        self.chain, self.shortcut = chain, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.chain(x) + self.shortcut(x))


def resnet(
    num_classes: int = 1000,
    kind: str = "static",
    *,
    num_experts: int | None = None,
    in_channels: int = 3,
    width: float = 1.0,
    stem_channels: int = 64,
    depths: Sequence[int] = (2, 2, 2, 2),
    channels: Sequence[int] = (64, 128, 256, 512),
    bottleneck: bool = False,
    small: bool = False,
    last: int = 3,
    squeeze: int = 0,
) -> Network:
    """A ResNet of len(depths) stages, each after the first of half the size.

    CondConv has the `last` 3 blocks and the classifier; shortcuts of CondConv and DyNet, whose routers serve a block's
    chain, stay static. `width` multiplies all channels. A `small` network is for small images: a 3x3 stem without
    stride and pooling. `squeeze` s > 0 gives shared routers two factors, C -> C/s -> coefficients, as DyNet's.

    Raises InvalidArgument where `depths` and `channels` differ in length.
    """
    if len(depths) != len(channels) or not depths:
        raise InvalidArgument(
            "every stage has a depth and a width", where="depths", got=f"{tuple(depths)} and {tuple(channels)}"
        )
    chosen, plain = Kind(kind, num_experts), Kind()
    inputs = int(stem_channels * width * chosen.width)
    begin = stem(in_channels, inputs, 3 if small else 7, 1 if small else 2, nn.ReLU())
    if not small:
        begin.append(nn.MaxPool2d(3, 2, 1))
    first = chosen.first_dynamic(sum(depths), last)
    made: list[nn.Module] = []
    for stage, (depth, base) in enumerate(zip(depths, channels, strict=True)):
        middle = int(base * width * chosen.width)
        outputs = 4 * middle if bottleneck else middle
        for place in range(depth):
            stride = 2 if place == 0 and stage > 0 else 1
            own = chosen if len(made) >= first else plain
            layers = _bottleneck(middle, outputs, stride) if bottleneck else _basic(outputs, stride)
            chain = Chain(own, inputs, layers, squeeze=max(inputs // squeeze, 1) if squeeze else 0)
            same = stride == 1 and inputs == outputs
            shortcut = (own.alone(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))
            made.append(Shortcut(chain, nn.Identity() if same else nn.Sequential(*shortcut)))
            inputs = outputs
    return Network(begin, made, nn.Identity(), chosen.classifier(inputs, num_classes))


def _basic(outputs: int, stride: int) -> list[tuple[int, int, int, int, type[nn.Module] | None]]:
    return [(outputs, 3, stride, 1, nn.ReLU), (outputs, 3, 1, 1, None)]


def _bottleneck(middle: int, outputs: int, stride: int) -> list[tuple[int, int, int, int, type[nn.Module] | None]]:
    return [(middle, 1, 1, 1, nn.ReLU), (middle, 3, stride, 1, nn.ReLU), (outputs, 1, 1, 1, None)]


def resnet18(num_classes: int = 1000, kind: str = "static", *, num_experts: int | None = None) -> Network:
    """ResNet-18 at paper size."""
    return resnet(num_classes, kind, num_experts=num_experts)


def resnet50(num_classes: int = 1000, kind: str = "static", *, num_experts: int | None = None) -> Network:
    """ResNet-50 at paper size."""
    return resnet(num_classes, kind, num_experts=num_experts, depths=(3, 4, 6, 3), bottleneck=True)
