"""The layer that each block is measured as, and the plain convolution of the same arguments beside it."""

from __future__ import annotations

from typing import Any

from torch import nn

from convfold.blocks import find

__all__ = ["block_as", "has_statistics", "plain_layer"]

# Blocks that are meant for something else than a dense 3x3: arguments of the plain convolution, and own options.
KERNELS: dict[str, int] = {"dilated": 13, "mixconv": 7}
DEPTHWISE = ("dilated", "mixconv")
OPTIONS: dict[str, dict[str, Any]] = {"repmlp": {"height": 8, "width": 8, "groups": 8}}


def plain_layer(name: str, channels: int, bias: bool) -> nn.Conv2d:
    """The plain convolution in whose place the block `name` would stand."""
    kernel = KERNELS.get(name, 3)
    groups = channels if name in DEPTHWISE else 1
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=groups, bias=bias)


def block_as(name: str, layer: nn.Conv2d, **options: Any) -> Any:
    """The block `name` with the arguments of `layer`."""
    placement = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    options = {**OPTIONS.get(name, {}), **options}
    return find(name, 2).in_place_of(layer, layer.bias is not None, placement, **options)


def has_statistics(module: nn.Module) -> bool:
    """Whether a batch normalisation stands inside, so that there is no kernel while training."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
