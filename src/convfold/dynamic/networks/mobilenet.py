"""MobileNetV1, V2 and V3 with any kind of convolution.

Howard et al., 2017, arXiv 1704.04861; Sandler et al., CVPR 2018, arXiv 1801.04381; Howard et al., ICCV 2019, arXiv
1905.02244. With kind "static" they are the published networks, V2 and V3 torchvision's to the last parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from convfold.dynamic.networks.kinds import Gate, Kind
from convfold.dynamic.networks.parts import Chain, Network, divisible, stem
from convfold.errors import InvalidArgument

__all__ = ["V2_STAGES", "V3_LARGE", "V3_SMALL", "Inverted", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3"]

V1_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))
V2_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


@dataclass(frozen=True)
class Inverted:
    """One block of MobileNetV3: kernel, expanded and output channels, its own gate, hard swish, stride."""

    size: int
    expanded: int
    outputs: int
    gate: bool
    swish: bool
    stride: int


def _table(*rows: tuple[int, int, int, int, int, int]) -> tuple[Inverted, ...]:
    return tuple(Inverted(k, e, o, bool(se), bool(hs), s) for k, e, o, se, hs, s in rows)


V3_SMALL = _table(
    (3, 16, 16, 1, 0, 2),
    (3, 72, 24, 0, 0, 2),
    (3, 88, 24, 0, 0, 1),
    (5, 96, 40, 1, 1, 2),
    (5, 240, 40, 1, 1, 1),
    (5, 240, 40, 1, 1, 1),
    (5, 120, 48, 1, 1, 1),
    (5, 144, 48, 1, 1, 1),
    (5, 288, 96, 1, 1, 2),
    (5, 576, 96, 1, 1, 1),
    (5, 576, 96, 1, 1, 1),
)
V3_LARGE = _table(
    (3, 16, 16, 0, 0, 1),
    (3, 64, 24, 0, 0, 2),
    (3, 72, 24, 0, 0, 1),
    (5, 72, 40, 1, 0, 2),
    (5, 120, 40, 1, 0, 1),
    (5, 120, 40, 1, 0, 1),
    (3, 240, 80, 0, 1, 2),
    (3, 200, 80, 0, 1, 1),
    (3, 184, 80, 0, 1, 1),
    (3, 184, 80, 0, 1, 1),
    (3, 480, 112, 1, 1, 1),
    (3, 672, 112, 1, 1, 1),
    (5, 672, 160, 1, 1, 2),
    (5, 960, 160, 1, 1, 1),
    (5, 960, 160, 1, 1, 1),
)


class Residual(nn.Module):
    """``x + chain(x)`` where shapes allow it, else ``chain(x)``."""

    def __init__(self, chain: Chain, *, adds: bool) -> None:
        super().__init__()
        self.chain, self.adds = chain, adds

    def forward(self, x: Tensor) -> Tensor:
        y = self.chain(x)
        return x + y if self.adds else y  # type: ignore[no-any-return]


def mobilenet_v1(
    num_classes: int = 1000,
    kind: str = "static",
    *,
    num_experts: int | None = None,
    in_channels: int = 3,
    width: float = 1.0,
    stem_channels: int = 32,
    stem_stride: int = 2,
    blocks: Sequence[tuple[int, int]] = V1_BLOCKS,
    last: int = 8,
) -> Network:
    """MobileNetV1: depthwise separable blocks of (output channels, stride).

    CondConv has the `last` 8 of the 13 blocks, from the sixth on, and the classifier. `width` multiplies all channels.
    """
    chosen, plain = Kind(kind, num_experts), Kind()
    width *= chosen.width
    channels = divisible(stem_channels * width)
    first, made = chosen.first_dynamic(len(blocks), last), []
    begin = stem(in_channels, channels, 3, stem_stride, nn.ReLU())
    for place, (base, stride) in enumerate(blocks):
        outputs = divisible(base * width)
        layers = [(channels, 3, stride, channels, nn.ReLU), (outputs, 1, 1, 1, nn.ReLU)]
        made.append(Chain(chosen if place >= first else plain, channels, layers))
        channels = outputs
    return Network(begin, made, nn.Identity(), chosen.classifier(channels, num_classes))


def mobilenet_v2(
    num_classes: int = 1000,
    kind: str = "static",
    *,
    num_experts: int | None = None,
    in_channels: int = 3,
    width: float = 1.0,
    stem_channels: int = 32,
    stem_stride: int = 2,
    stages: Sequence[tuple[int, int, int, int]] = V2_STAGES,
    head_channels: int = 1280,
    last: int = 6,
) -> Network:
    """MobileNetV2: stages of (expansion, output channels, blocks, stride).

    CondConv has the `last` 6 blocks and the classifier, DynamicConv each convolution but the first. `width` multiplies
    all channels, those of the head only from 1 on.
    """
    chosen, plain = Kind(kind, num_experts), Kind()
    width *= chosen.width
    channels = divisible(stem_channels * width)
    begin = stem(in_channels, channels, 3, stem_stride, nn.ReLU6())
    first = chosen.first_dynamic(sum(stage[2] for stage in stages), last)
    made: list[nn.Module] = []
    for expansion, base, count, stride in stages:
        outputs = divisible(base * width)
        for place in range(count):
            step, middle = (stride if place == 0 else 1), expansion * channels
            expand = [] if expansion == 1 else [(middle, 1, 1, 1, nn.ReLU6)]
            layers = [*expand, (middle, 3, step, middle, nn.ReLU6), (outputs, 1, 1, 1, None)]
            block = Chain(chosen if len(made) >= first else plain, channels, layers)
            made.append(Residual(block, adds=step == 1 and channels == outputs))
            channels = outputs
    wide = divisible(head_channels * max(1.0, width))
    head = nn.Sequential(chosen.alone(channels, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6())
    classifier = nn.Sequential(nn.Dropout(0.2), chosen.classifier(wide, num_classes))
    return Network(begin, made, head, classifier)


def mobilenet_v3(
    num_classes: int = 1000,
    kind: str = "static",
    *,
    num_experts: int | None = None,
    in_channels: int = 3,
    width: float = 1.0,
    stem_channels: int = 16,
    stem_stride: int = 2,
    blocks: Sequence[Inverted] = V3_SMALL,
    head_channels: int = 1024,
    last: int = 6,
) -> Network:
    """MobileNetV3: blocks as `V3_SMALL` and `V3_LARGE` (with 1280 `head_channels`) have them, gates included.

    The published gates stay in every kind; "se" gives all other blocks one too. Otherwise as `mobilenet_v2`.
    """
    if not blocks:
        raise InvalidArgument("a network has at least one block", where="blocks", got="none")
    chosen, plain = Kind(kind, num_experts), Kind()
    width *= chosen.width
    channels = divisible(stem_channels * width)
    begin = stem(in_channels, channels, 3, stem_stride, nn.Hardswish(), 1e-3)
    first, made = chosen.first_dynamic(len(blocks), last), []
    for place, block in enumerate(blocks):
        middle, outputs = divisible(block.expanded * width), divisible(block.outputs * width)
        act = nn.Hardswish if block.swish else nn.ReLU
        expand = [] if middle == channels else [(middle, 1, 1, 1, act)]
        layers = [*expand, (middle, block.size, block.stride, middle, act), (outputs, 1, 1, 1, None)]
        has_gate = block.gate or kind == "se"
        gate = Gate(middle, divisible(middle // 4), hard=True) if has_gate else None
        own = chosen if place >= first else plain
        chain = Chain(own, channels, layers, inner_gate=gate, end_gate=False, eps=1e-3)
        made.append(Residual(chain, adds=block.stride == 1 and channels == outputs))
        channels = outputs
    middle, wide = 6 * channels, divisible(head_channels * max(1.0, width))
    head = nn.Sequential(chosen.alone(channels, middle, 1), nn.BatchNorm2d(middle, 1e-3), nn.Hardswish())
    last_layers = (nn.Linear(middle, wide), nn.Hardswish(), nn.Dropout(0.2), chosen.classifier(wide, num_classes))
    return Network(begin, made, head, nn.Sequential(*last_layers))
