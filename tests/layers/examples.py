"""One configuration of every layer in every dimension, with an input, and its cost in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from convfold import layers

__all__ = ["EXAMPLES", "NAMES", "Example", "closed"]

C_IN, C_OUT = 8, 12
SIZE = {1: (11,), 2: (9, 10), 3: (5, 6, 7)}


@dataclass(frozen=True)
class Example:
    """A layer by name, its arguments and options."""

    name: str
    dims: int
    arguments: tuple[tuple[str, Any], ...] = ()

    def build(self, **more: Any) -> Any:
        kernel = {"pointwise": 1, "full_map": SIZE[self.dims]}.get(self.name, 3)
        return layers.build(
            self.name, self.dims, C_IN, C_OUT, **{"kernel_size": kernel, **dict(self.arguments), **more}
        )

    def input(self, batch: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        return torch.randn(batch, C_IN, *SIZE[self.dims], generator=generator, dtype=torch.float64).to(dtype)

    def __str__(self) -> str:
        return "-".join([self.name, f"{self.dims}d", *(f"{k}={v}" for k, v in self.arguments)])


_PLAIN = ({"padding": 1}, {"stride": 2, "padding": 2, "bias": False})
_OWN: dict[str, tuple[dict[str, Any], ...]] = {
    "bottleneck": (
        *_PLAIN,
        {"padding": 1, "groups": 2, "mid_channels": 4},
        {"padding": 1, "groups": 2, "mid_channels": 20, "depthwise": True, "shuffle": True, "stride": 2},
    ),
    "depthwise_separable": (*_PLAIN, {"padding": 1, "groups": 4, "depth_multiplier": 3}),
    "depthwise_separable_transpose": (
        *_PLAIN,
        {"stride": 2, "padding": 1, "output_padding": 1, "groups": 4, "depth_multiplier": 2},
        {"stride": 2, "padding": 1, "pointwise": "first", "groups": 2, "depth_multiplier": 2},
    ),
    "dilated": ({}, {"stride": 2, "padding": 2, "bias": False, "groups": 4}),
    "fire": (*_PLAIN, {"padding": 1, "squeeze": 5, "pointwise": 3}),
    "flattened": (*_PLAIN, {"padding": 1, "stride": 2, "groups": 2, "lateral": "last"}),
    "full_map": ({}, {"bias": False, "groups": 4}),
    "gated": (*_PLAIN, {"padding": 1, "groups": 2}),
    "pointwise": ({}, {"stride": 2, "bias": False, "groups": 4}),
    "shuffle": ({"padding": 1, "groups": 4}, {"stride": 2, "bias": False, "groups": 2}),
    "spatially_separable": (*_PLAIN, {"padding": 1, "stride": 2, "groups": 2, "mid_channels": 6}),
    "split_transform_merge": tuple(
        {"padding": 1, "branches": 4, "merge": merge, "split": split, "bias": bias}
        for merge in ("concat", "sum", "mean", "weighted_sum", "shuffle")
        for split, bias in (("share", True), ("whole", False))
    ),
}
NAMES = sorted(_OWN)
EXAMPLES = [
    Example(name, dims, tuple(own.items())) for name, rows in _OWN.items() for dims in (1, 2, 3) for own in rows
]


def _sizes(layer: Any, size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The map before, and after the kernel of each axis in turn."""
    found = [size]
    for axis, (k, s, d) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)):
        pad = 0
        if layer.padding == "same":
            pad = d * (k - 1)
        elif not isinstance(layer.padding, str):
            pad = 2 * layer.padding[axis]
        after = list(found[-1])
        after[axis] = (after[axis] + pad - d * (k - 1) - 1) // s + 1
        found.append(tuple(after))
    return found


def closed(layer: Any, size: tuple[int, ...]) -> tuple[int, int]:
    """Multiply-accumulates of one sample and parameters, by the formulas of the layer's docstring."""
    name = layer.name
    c, n, g, t = layer.in_channels, layer.out_channels, layer.groups, prod(layer.kernel_size)
    bias = n if layer._bias else 0
    if name == "depthwise_separable_transpose":
        r = layer.depth_multiplier
        rows = zip(
            size, layer.stride, layer.padding, layer.dilation, layer.kernel_size, layer.output_padding, strict=True
        )
        p0, p = prod(size), prod((m - 1) * s - 2 * q + d * (k - 1) + o + 1 for m, s, q, d, k, o in rows)
        if layer.pointwise_first:
            return r * n * p0 * (c // g + t), r * n * (c // g + t) + bias
        return r * c * (p0 * t + p * n // g), r * c * (t + n // g) + bias
    sizes = _sizes(layer, size)
    p0, p = prod(size), prod(sizes[-1])
    after = [prod(s) for s in sizes[1:]]
    formula: dict[str, Callable[[], tuple[int, int]]] = {
        "depthwise_separable": lambda: (
            p * c * layer.depth_multiplier * (t + n // g),
            c * layer.depth_multiplier * (t + n // g) + bias,
        ),
        "flattened": lambda: _flattened(layer, p0, p, after, bias),
        "spatially_separable": lambda: _spatial(layer, after, bias),
        "bottleneck": lambda: _bottleneck(layer, p0, p, t, bias),
        "gated": lambda: (2 * p * t * c * n // g, 2 * (t * c * n // g) + 2 * bias),
        "fire": lambda: _fire(layer, p0, p, t),
        "split_transform_merge": lambda: _merge(layer, p, t, bias),
    }
    return formula.get(name, lambda: (p * t * c * n // g, t * c * n // g + bias))()


def _flattened(layer: Any, p0: int, p: int, after: list[int], bias: int) -> tuple[int, int]:
    c, n, g = layer.in_channels, layer.out_channels, layer.groups
    width, at = (n, p0) if layer.lateral_first else (c, p)
    axes = sum(positions * k * width for positions, k in zip(after, layer.kernel_size, strict=True))
    return at * c * n // g + axes, c * n // g + width * sum(layer.kernel_size) + bias


def _spatial(layer: Any, after: list[int], bias: int) -> tuple[int, int]:
    widths = [layer.in_channels, *[layer.mid_channels] * (layer.dims - 1), layer.out_channels]
    kernels = [k * a * b // layer.groups for k, a, b in zip(layer.kernel_size, widths, widths[1:], strict=False)]
    return sum(p * w for p, w in zip(after, kernels, strict=True)), sum(kernels) + bias


def _bottleneck(layer: Any, p0: int, p: int, t: int, bias: int) -> tuple[int, int]:
    c, n, g, m = layer.in_channels, layer.out_channels, layer.groups, layer.mid_channels
    middle = t * m if layer.depthwise else t * m * m // g
    return p0 * c * m // g + p * middle + p * m * n // g, c * m // g + middle + m * n // g + bias


def _fire(layer: Any, p0: int, p: int, t: int) -> tuple[int, int]:
    c, m, e1 = layer.in_channels, layer.squeeze.out_channels, layer.expand.pointwise
    expand = m * (e1 + t * (layer.out_channels - e1))
    biases = m + layer.out_channels if layer._bias else 0
    return p0 * c * m + p * expand, c * m + expand + biases


def _merge(layer: Any, p: int, t: int, bias: int) -> tuple[int, int]:
    count = len(layer.branches)
    c = layer.in_channels // count if layer.split == "share" else layer.in_channels
    n = layer.out_channels // count if layer.merge in ("concat", "shuffle") else layer.out_channels
    kernels = count * t * c * n // layer.groups
    return p * kernels, kernels + bias + (count if layer.merge == "weighted_sum" else 0)
