"""Concatenations and selections: where channels come from."""

from __future__ import annotations

from typing import Any

from convfold.geometry import Axis
from convfold.graph.captured import Constant, Ref, Size
from convfold.graph.maps import IDENTITY, Given, Map, select
from convfold.graph.operation import Operation, rule
from convfold.graph.program import Concat, Linear, Node, Term
from convfold.graph.sizes import static

__all__ = ["picked", "sliced"]


@rule("cat", "concat", "concatenate")
def concat(op: Operation) -> Node | None:
    """The pieces one after another."""
    pieces = op.get("tensors")
    rank = len(op.out.dims)
    if not isinstance(pieces, (list, tuple)) or not isinstance(op.get("dim"), int):
        return None
    values = [op.value(piece) for piece in pieces]
    if any(value is None or len(op.dims(value)) != rank for value in values):
        return None
    return Concat(tuple(value.value for value in values if value is not None), op["dim"] % rank)


def picked(op: Operation, source: Ref, axis: int, index: tuple[int, ...]) -> Node | None:
    """``x[index]`` on an axis whose size all inputs share; not on the batch."""
    size = op.channels(source, axis)
    if size is None or axis == 0:
        return None
    return Linear((Term(select(index, size, axis), source.value),))


def _crop(op: Operation, source: Ref, axis: int, low: int, high: int, step: int) -> Node | None:
    """A strided crop of a spatial axis: a window of one tap that pads less than nothing."""
    rank = len(op.out.dims)
    channels = op.channels(source, 1)
    if rank not in (4, 5) or axis < 2 or channels is None:
        return None
    window = tuple(Axis(1, step, 1, -low, high) if a == axis else Axis() for a in range(2, rank))
    m = Map("pool", channels, channels, 1, window, channels, Given(("average", 1)))
    return Linear((Term(m, source.value),))


def sliced(op: Operation, source: Ref, axis: int, start: Any, end: Any, step: int) -> Node | None:
    """``x[start:end:step]`` on one axis: a selection of channels, or a crop of positions that may be open."""
    size = op.dims(source)[axis]
    whole = static(size)
    if step == 1 and op.same_shape(source):
        return Linear((Term(IDENTITY, source.value),))
    if whole is None:
        low, high = _from_start(start), _from_end(end)
        return None if low is None or high is None else _crop(op, source, axis, low, high, step)
    if isinstance(start, Size) or isinstance(end, Size):
        return None
    span = range(whole)[slice(start, end, step)]
    index = tuple(span)
    if len(op.out.dims) in (4, 5) and axis >= 2 and index != tuple(range(whole)):
        last = span[-1] if index else 0
        cropped = _crop(op, source, axis, span.start, last + 1 - whole, step) if index else None
        if cropped is not None:
            return cropped
    return picked(op, source, axis, index)


def _from_start(start: Any) -> int | None:
    if start is None:
        return 0
    return start if isinstance(start, int) and start >= 0 else None


def _from_end(end: Any) -> int | None:
    """How many positions behind the last one the slice ends: zero or less, where that is known."""
    if end is None or (isinstance(end, int) and end >= 2**62):
        return 0
    return end if isinstance(end, int) and end < 0 else None


@rule("slice")
def slice_(op: Operation) -> Node | None:
    """``self[start:end:step]`` on one axis"""
    source = op.source
    if source is None or not isinstance(op["step"], int) or not isinstance(op["dim"], int):
        return None
    return sliced(op, source, op["dim"] % len(op.out.dims), op["start"], op["end"], op["step"])


@rule("narrow")
def narrow(op: Operation) -> Node | None:
    """``length`` channels from ``start``"""
    source, start, length = op.source, op["start"], op["length"]
    if source is None or not isinstance(start, int) or not isinstance(length, int):
        return None
    axis = op["dim"] % len(op.out.dims)
    size = op.channels(source, axis)
    if size is None:
        return None
    start = start % size if size else 0
    return sliced(op, source, axis, start, start + length, 1)


@rule("flip")
def flip(op: Operation) -> Node | None:
    """One axis backwards."""
    source, axes = op.source, op["dims"]
    if source is None or len(axes) != 1:
        return None
    axis = axes[0] % len(op.out.dims)
    size = op.channels(source, axis)
    return None if size is None else picked(op, source, axis, tuple(range(size))[::-1])


@rule("roll")
def roll(op: Operation) -> Node | None:
    """One axis turned round by ``shifts``."""
    source, axes, shifts = op.source, op["dims"], op["shifts"]
    if source is None or len(axes) != 1 or not isinstance(shifts[0], int):
        return None
    axis = axes[0] % len(op.out.dims)
    size = op.channels(source, axis)
    return None if not size else picked(op, source, axis, tuple((i - shifts[0]) % size for i in range(size)))


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(op: Operation) -> Node | None:
    """Channel ``g*(C/G) + c`` goes to ``c*G + g``."""
    source, groups = op.source, op["groups"]
    channels = None if source is None else op.channels(source, 1)
    if source is None or channels is None:
        return None
    width = channels // groups
    return picked(op, source, 1, tuple(g * width + c for c in range(width) for g in range(groups)))


@rule("index_select")
def index_select(op: Operation) -> Node | None:
    """``self[index]`` on one axis"""
    source, index = op.source, op["index"]
    if source is None or not isinstance(index, Constant):
        return None
    return _indexed(op, source, op["dim"] % len(op.out.dims), index)


@rule("index")
def index(op: Operation) -> Node | None:
    """``self[:, index]``: one constant list of positions on one axis"""
    source, indices = op.source, op["indices"]
    if source is None:
        return None
    named = [(axis, found) for axis, found in enumerate(indices) if found is not None]
    if len(named) != 1 or not isinstance(named[0][1], Constant):
        return None
    return _indexed(op, source, *named[0])


def _indexed(op: Operation, source: Ref, axis: int, index: Constant) -> Node | None:
    if len(op.dims(index)) != 1:
        return None
    size = op.channels(source, axis)
    found = op.integers(index)
    if size is None or found is None:
        return None
    return picked(op, source, axis, tuple(i % size for i in found))
