"""The operators that definitions execute, each on its own: how it is called, and what it asks of a machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.cost.device.work import Work, convolution, linear, moving, pooling
from convfold.geometry import Window, out_size, point, transposed_size
from convfold.graph.maps import Map
from convfold.plan.search.price import is_slice

__all__ = ["Alone", "concatenated", "elementwise", "executes", "term"]

Shape = tuple[int, ...]

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True)
class Alone:
    """An operator: `run` calls it on tensors of these `shapes`, `label` tells it from others of the same shapes."""

    label: str
    shapes: tuple[Shape, ...]
    run: Callable[..., Any]
    work: Work


def elementwise(shape: Shape) -> Alone:
    """An addition of two values of this shape, which stands for everything elementwise."""
    size = prod(shape)
    return Alone("add", (shape, shape), torch.add, moving("elementwise", 2 * size, size))


def concatenated(shapes: Sequence[Shape], axis: int) -> Alone:
    """A concatenation of values of these shapes."""
    size = sum(map(prod, shapes))
    return Alone(f"cat {axis}", tuple(shapes), lambda *xs: torch.cat(xs, axis), moving("elementwise", size, size))


def term(shape: Shape, m: Map, device: torch.device) -> Alone | None:
    """The map `m` of a value of this shape; None where it executes nothing of its own."""
    if m.kind in ("identity", "scalar"):
        return None
    if m.kind == "diagonal":
        return elementwise(shape)
    if m.kind == "select":
        return _selected(shape, m, device)
    at = len(shape) - 1 if m.axis is None else m.axis
    dims = len(m.window) or len(shape) - 1 - at
    if not m.window and (dims == 0 or dims not in _CONV or at > 1):
        weight = (m.rows, m.cols // m.groups)
        work = linear((*shape[:at], *shape[at + 1 :], m.cols), weight)
        return Alone(f"linear {at} {m.groups}", (shape, weight), lambda x, w: _linear(x, w, at, m.groups), work)
    # Where channels stand before other axes, a map of them alone is a convolution of one tap.
    window = m.window or point(dims)
    if m.kind == "pool":
        return _pooled(shape, m, window)
    return _transposed(shape, m, window) if m.kind == "transposed" else _convolved(shape, m, window)


def executes(m: Map) -> int:
    """How many operators `term` stands for."""
    if m.kind in ("identity", "scalar"):
        return 0
    if m.kind == "select":
        return 0 if is_slice(m.index or ()) else 1
    return 1 if _even(m.window) or m.kind != "conv" else 2


def _selected(shape: Shape, m: Map, device: torch.device) -> Alone | None:
    if is_slice(m.index or ()):
        return None
    index = torch.tensor(m.index or (0,), device=device)
    axis, size = m.axis or 0, prod(shape) // m.cols * m.rows
    return Alone(f"select {axis}", (shape,), lambda x: x.index_select(axis, index), moving("elementwise", size, size))


def _pooled(shape: Shape, m: Map, window: Window) -> Alone:
    dims, pads, label = len(window), _pads(window), f"{m.kind} {window} {m.groups}"
    taps, stride = [a.kernel for a in window], [a.stride for a in window]
    work = pooling(shape, _written(shape, m, window), prod(taps))
    if all(k == 1 for k in taps):
        return Alone(label, (shape,), lambda x: F.pad(x, pads), work)
    native = _even(window) and all(2 * a.lo <= a.kernel for a in window)
    before = [a.lo for a in window] if native else [0] * dims
    return Alone(label, (shape,), lambda x: _POOL[dims](x if native else F.pad(x, pads), taps, stride, before), work)


def _transposed(shape: Shape, m: Map, window: Window) -> Alone:
    dims, kernel = len(window), (m.cols, m.rows // m.groups, *(a.kernel for a in window))
    stride, dilation = [a.stride for a in window], [a.dilation for a in window]
    extra, lows = [a.lo - a.hi for a in window], [a.lo for a in window]
    return Alone(
        f"{m.kind} {window} {m.groups}",
        (shape, kernel),
        lambda x, w: _TRANSPOSED[dims](x, w, None, stride, lows, extra, m.groups, dilation),
        convolution(_batched(shape, dims), kernel, _written(shape, m, window), m.groups, transposed=True),
    )


def _convolved(shape: Shape, m: Map, window: Window) -> Alone:
    dims, kernel = len(window), (m.rows, m.cols // m.groups, *(a.kernel for a in window))
    stride, dilation = [a.stride for a in window], [a.dilation for a in window]
    even, pads = _even(window), _pads(window)
    padding = [a.lo if even else 0 for a in window]
    return Alone(
        f"{m.kind} {window} {m.groups}",
        (shape, kernel),
        lambda x, w: _CONV[dims](x if even else F.pad(x, pads), w, None, stride, padding, dilation, m.groups),
        convolution(_batched(shape, dims), kernel, _written(shape, m, window), m.groups, dilation=dilation),
    )


def _batched(shape: Shape, dims: int) -> Shape:
    """With an axis before the channels, also where the value has none, and all axes before them as one."""
    return (prod(shape[: -dims - 1]), *shape[-dims - 1 :])


def _written(shape: Shape, m: Map, window: Window) -> Shape:
    batch, _, *sizes = _batched(shape, len(window))
    if m.kind == "transposed":
        after = tuple(transposed_size(axis, size) for axis, size in zip(window, sizes, strict=True))
    else:
        after = out_size(window, tuple(sizes))
    return (batch, m.rows, *after)


def _even(window: Window) -> bool:
    return all(axis.lo == axis.hi >= 0 for axis in window)


def _pads(window: Window) -> list[int]:
    return [n for axis in reversed(window) for n in (axis.lo, axis.hi)]


def _linear(x: Tensor, weight: Tensor, axis: int, groups: int) -> Tensor:
    """A Linear over `axis`; in groups, side by side."""
    moved = x.movedim(axis, -1)
    if groups == 1:
        return F.linear(moved, weight).movedim(-1, axis)
    parts = moved.reshape(*moved.shape[:-1], groups, 1, -1)
    joined = parts @ weight.reshape(groups, -1, weight.shape[1]).mT
    return joined.flatten(-3).movedim(-1, axis)
