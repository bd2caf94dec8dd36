"""Poolings, means, resizings and pads: linear maps that treat every channel alike."""

from __future__ import annotations

from math import prod
from typing import Any

from convfold.geometry import Axis, Window, conv_window
from convfold.graph.captured import Ref
from convfold.graph.maps import IDENTITY, Given, Map
from convfold.graph.operation import Operation, plain, rule
from convfold.graph.program import Linear, Node, Spatial, Term
from convfold.graph.sizes import static

__all__ = ["averaged", "pooled", "uniform"]


def uniform(op: Operation, source: Ref, dims: int, *, ones: bool) -> Node:
    """A map over the last `dims` axes."""
    axes = tuple((axis, axis) for axis in range(len(op.out.dims) - dims))
    return Spatial(source.value, axes, ones, False, op.number)


def pooled(op: Operation, source: Ref, window: Window, divisor: float) -> Node | None:
    """Each tap weighs 1/divisor: a convolution whose kernel is known."""
    axis = len(op.out.dims) - len(window) - 1
    channels = op.channels(source, axis) if axis >= 0 else None
    if channels is None:
        return None
    m = Map("pool", channels, channels, axis, window, channels, Given(("average", divisor)))
    return Linear((Term(m, source.value),))


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def avg_pool(op: Operation) -> Node | None:
    """The mean, or the sum over a divisor, of each window."""
    source = op.source
    dims = int(op.name[-2])
    kernel, stride, padding = op["kernel_size"], op["stride"], op["padding"]
    if source is None or not plain(kernel, stride, padding):
        return None
    window = conv_window(dims, _one(kernel), _one(stride) or _one(kernel), _one(padding))
    return averaged(
        op, source, window, op.get("divisor_override"), counts_padding=op["count_include_pad"], ceil=op["ceil_mode"]
    )


def averaged(
    op: Operation, source: Ref, window: Window, divisor: int | None = None, *, counts_padding: bool, ceil: bool
) -> Node | None:
    """The mean of each window, or its sum over `divisor`: a known kernel, where every tap of each window counts."""
    padded = any(axis.lo or axis.hi for axis in window)
    counted = counts_padding or not padded
    if (ceil and not _fits(op, source, window)) or (not counted and divisor is None):
        return uniform(op, source, len(window), ones=divisor is None and not (padded and counts_padding))
    return pooled(op, source, window, divisor or prod(axis.kernel for axis in window))


def _one(value: Any) -> Any:
    if isinstance(value, int):
        return value
    return tuple(value) if len(value) != 1 else value[0]


def _fits(op: Operation, source: Ref, window: Window) -> bool:
    """Whether no window hangs over the end, for all inputs."""
    sizes = [static(size) for size in op.dims(source)[-len(window) :]]
    return all(
        size is not None and (size + axis.lo + axis.hi - axis.kernel) % axis.stride == 0
        for size, axis in zip(sizes, window, strict=True)
    )


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d")
def adaptive(op: Operation) -> Node | None:
    """The mean of each of a number of windows."""
    source = op.source
    return None if source is None else uniform(op, source, int(op.name[-2]), ones=True)


@rule("mean", "sum")
def reduced(op: Operation) -> Node | None:
    """The mean or the sum over axes."""
    source, axes = op.source, op.get("dim")
    if source is None:
        return None
    rank = len(op.dims(source))
    listed = [axes] if isinstance(axes, int) else axes
    gone = {axis % rank for axis in listed} if listed else set(range(rank))
    kept = [axis for axis in range(rank) if axis not in gone]
    places = {axis: axis if op.get("keepdim") else place for place, axis in enumerate(kept)}
    return Spatial(source.value, tuple(places.items()), op.name == "mean", False, op.number)


@rule(
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_linear1d", "upsample_bilinear2d",
    "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa",
)  # fmt: skip
def resized(op: Operation) -> Node | None:
    """Every position a weighted mean of some: the weights add up to one."""
    source = op.source
    return None if source is None else uniform(op, source, len(op.out.dims) - 2, ones=True)


@rule(
    "pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d", "replication_pad1d",
    "replication_pad2d", "replication_pad3d", "_pad_circular",
)  # fmt: skip
def pad(op: Operation) -> Node | None:
    """Zeros, or the value's own elements, around it; a negative pad crops."""
    source = op.source
    amounts = list(op.get("pad", op.get("padding")))
    rank = len(op.out.dims)
    mode = op.get("mode", "constant" if op.name == "constant_pad_nd" else "other")
    if source is None or not plain(op.get("value")):
        return None
    touched = {rank - 1 - k // 2 for k, amount in enumerate(amounts) if amount != 0}
    if not touched:
        return Linear((Term(IDENTITY, source.value),))
    axes = tuple((axis, axis) for axis in range(rank) if axis not in touched)
    constant = mode == "constant"
    if constant and op.get("value"):
        return None  # affine, not linear
    if constant and rank in (3, 4, 5) and min(touched) >= 2 and plain(amounts):
        pads = {rank - 1 - k // 2: tuple(amounts[k : k + 2]) for k in range(0, len(amounts), 2)}
        window = tuple(Axis(1, 1, 1, *pads.get(axis, (0, 0))) for axis in range(2, rank))
        found = pooled(op, source, window, 1)
        if found is not None:
            return found
    return Spatial(source.value, axes, not constant, False, op.number)
