"""What a chain of views does to the axes: each axis a product of parts of the axes that it started from.

A part ``(axis, stride, size)`` of a base axis is the digit ``(index // stride) % size`` of its index, most
significant part first. Sizes are pairs (see `sizes`), so what holds, holds for every input size.
"""

from __future__ import annotations

from dataclasses import dataclass

from convfold.graph.sizes import Pair

__all__ = ["Layout", "Part", "identity", "reshaped"]

ONE: Pair = (1, 1)


@dataclass(frozen=True)
class Part:
    """One digit of the index of a base axis."""

    axis: int
    stride: Pair
    size: Pair


Axis = tuple[Part, ...]
Layout = tuple[Axis, ...]


def _times(one: Pair, two: Pair) -> Pair:
    return (one[0] * two[0], one[1] * two[1])


def _divides(one: Pair, two: Pair) -> bool:
    return 0 not in one and two[0] % one[0] == 0 and two[1] % one[1] == 0


def _over(one: Pair, two: Pair) -> Pair:
    return (one[0] // two[0], one[1] // two[1])


def identity(shape: tuple[Pair, ...]) -> Layout:
    """Each axis itself."""
    return tuple(() if size == ONE else (Part(axis, ONE, size),) for axis, size in enumerate(shape))


def _merged(parts: list[Part]) -> Axis:
    """Neighbouring digits of one axis as one."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last is not None and last.axis == part.axis and last.stride == _times(part.stride, part.size):
            merged[-1] = Part(part.axis, part.stride, _times(last.size, part.size))
        else:
            merged.append(part)
    return tuple(merged)


def reshaped(layout: Layout, shape: tuple[Pair, ...]) -> Layout | None:
    """The layout after a view as `shape`; None where a new axis begins inside a part that does not divide."""
    rest = [part for axis in layout for part in axis][::-1]
    result: list[Axis] = []
    for size in shape:
        need, taken = size, []
        while need != ONE:
            if not rest:
                return None
            part = rest.pop()
            if _divides(part.size, need):
                taken.append(part)
                need = _over(need, part.size)
            elif _divides(need, part.size):
                inner = _over(part.size, need)
                taken.append(Part(part.axis, _times(part.stride, inner), need))
                rest.append(Part(part.axis, part.stride, inner))
                need = ONE
            else:
                return None
        result.append(_merged(taken))
    return None if rest else tuple(result)
