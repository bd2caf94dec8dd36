"""The reference networks so small that every test is quick, with normalisations that are never fresh."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from convfold.dynamic import networks
from support.make import randomise

__all__ = ["OWN", "TINY", "drawn"]

# By family; each takes a kind. Inputs are 1x8x8.
TINY: dict[str, Callable[[str], nn.Module]] = {
    "mobilenet_v1": lambda kind: networks.mobilenet_v1(
        10,
        kind,
        in_channels=1,
        stem_channels=8,
        stem_stride=1,
        blocks=((8, 1), (16, 2)),
        last=1,
        num_experts=_few(kind),
    ),
    "mobilenet_v2": lambda kind: networks.mobilenet_v2(
        10,
        kind,
        in_channels=1,
        stem_channels=8,
        stem_stride=1,
        stages=((1, 8, 1, 1), (2, 16, 1, 2)),
        head_channels=24,
        last=1,
        num_experts=_few(kind),
    ),
    "mobilenet_v3": lambda kind: networks.mobilenet_v3(
        10,
        kind,
        in_channels=1,
        stem_channels=8,
        stem_stride=1,
        blocks=networks.V3_SMALL[:2],
        head_channels=24,
        last=1,
        num_experts=_few(kind),
    ),
    "resnet": lambda kind: networks.resnet(
        10,
        kind,
        in_channels=1,
        stem_channels=8,
        depths=(1, 1),
        channels=(8, 16),
        small=True,
        last=1,
        num_experts=_few(kind),
    ),
}
# DyNet's own networks.
OWN: dict[str, Callable[[str], nn.Module]] = {
    "dy_mobile": lambda kind: networks.dy_mobile(
        10, kind, in_channels=1, stem_channels=8, stem_stride=1, stages=((1, 8, 2, 1),), head_channels=16
    ),
    "dy_shuffle": lambda kind: networks.shufflenet_v2(
        10, kind, in_channels=1, stem_channels=8, stem_stride=1, channels=(16,), depths=(2,), head_channels=16, parts=4
    ),
    "dy_resnet": lambda kind: networks.resnet(
        10, kind, in_channels=1, stem_channels=8, depths=(1,), channels=(4,), bottleneck=True, small=True, squeeze=4
    ),
}


def _few(kind: str) -> int | None:
    return 3 if kind in ("uniform", "condconv", "dynamicconv", "dynet") else None


def drawn(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The network in float64 and eval mode; normalisations random, other parameters as freshly made."""
    torch.manual_seed(seed)
    net = build().double().eval()
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            randomise(module, generator)
    return net
