"""Networks of a size that trains on a CPU: images of 1x8x8 (scikit-learn's digits) or 3x32x32.

    convfold.dynamic.networks.digits:resnet_condconv        one channel
    convfold.dynamic.networks.digits:resnet_condconv_rgb    three

There is a factory ``FAMILY_KIND`` for each of the families mobilenet_v2, mobilenet_v3 and resnet and each of `KINDS`,
called with ``num_classes=``; `FACTORIES` has them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

from convfold.dynamic.networks import mobilenet
from convfold.dynamic.networks.kinds import KINDS
from convfold.dynamic.networks.mobilenet import Inverted
from convfold.dynamic.networks.parts import Network
from convfold.dynamic.networks.resnet import resnet as any_resnet

__all__ = ["FACTORIES", "FAMILIES", "mobilenet_v2", "mobilenet_v3", "resnet"]

_V2_STAGES = ((1, 16, 1, 1), (4, 24, 2, 2), (4, 32, 2, 2))
_V3_BLOCKS = (
    Inverted(3, 16, 16, True, False, 1),
    Inverted(3, 64, 24, False, False, 2),
    Inverted(3, 96, 24, False, True, 1),
    Inverted(5, 96, 32, True, True, 2),
    Inverted(5, 128, 32, True, True, 1),
)


def mobilenet_v2(
    num_classes: int = 10, kind: str = "static", *, in_channels: int = 1, num_experts: int | None = None
) -> Network:
    """Five inverted residual blocks; CondConv in the last three."""
    return mobilenet.mobilenet_v2(
        num_classes,
        kind,
        num_experts=num_experts,
        in_channels=in_channels,
        stem_channels=16,
        stem_stride=1,
        stages=_V2_STAGES,
        head_channels=64,
        last=3,
    )


def mobilenet_v3(
    num_classes: int = 10, kind: str = "static", *, in_channels: int = 1, num_experts: int | None = None
) -> Network:
    """Five blocks with gates and hard swish as MobileNetV3 has them; CondConv in the last three."""
    return mobilenet.mobilenet_v3(
        num_classes,
        kind,
        num_experts=num_experts,
        in_channels=in_channels,
        stem_stride=1,
        blocks=_V3_BLOCKS,
        head_channels=64,
        last=3,
    )


def resnet(
    num_classes: int = 10, kind: str = "static", *, in_channels: int = 1, num_experts: int | None = None
) -> Network:
    """Three basic blocks of 16, 32 and 64 channels; CondConv in the last two."""
    return any_resnet(
        num_classes,
        kind,
        num_experts=num_experts,
        in_channels=in_channels,
        stem_channels=16,
        depths=(1, 1, 1),
        channels=(16, 32, 64),
        small=True,
        last=2,
    )


FAMILIES: dict[str, Callable[..., Network]] = {
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "resnet": resnet,
}
_INPUTS = {"": 1, "_rgb": 3}
FACTORIES: dict[str, Callable[..., Network]] = {
    f"{family}_{kind}{suffix}": partial(FAMILIES[family], kind=kind, in_channels=channels)
    for family, kind, (suffix, channels) in product(FAMILIES, KINDS, _INPUTS.items())
}


def __getattr__(name: str) -> Callable[..., Network]:
    if name in FACTORIES:
        return FACTORIES[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *FACTORIES])
