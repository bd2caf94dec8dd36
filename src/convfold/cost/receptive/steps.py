"""How reaches pass through the operators that move dimensions or sample along them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from math import prod

from convfold.cost.receptive.reach import Reach

__all__ = ["Step", "broadcast", "in_turn", "mixed", "permuted", "renamed", "resample", "reshaped", "unless", "window"]

Shape = Sequence[int]

# From the reach of an operand to what it becomes in the result; None where that cannot be said exactly.
Step = Callable[[Reach], Reach | None]


def broadcast(shape: Shape, out: Shape) -> Step:
    """Elementwise: dimensions are aligned from the last one, those of size one are repeated."""
    shift = len(out) - len(shape)

    def step(reach: Reach) -> Reach:
        for dim in reach.dims:
            if shape[dim] == 1 and out[dim + shift] != 1:
                reach = reach.whole(dim, 1)
        return reach.moved({d: d + shift for d in reach.dims})

    return step


def mixed(shape: Shape, dims: Iterable[int], *, keep: bool = True) -> Step:
    """Every result reads all elements along `dims`, which vanish unless `keep`."""
    gone = {dim % len(shape) for dim in dims} if shape else set()
    left = [d for d in range(len(shape)) if keep or d not in gone]

    def step(reach: Reach) -> Reach:
        for dim in gone:
            reach = reach.whole(dim, shape[dim])
        return reach.moved({d: i for i, d in enumerate(left)})

    return step


def renamed(places: Mapping[int, int]) -> Step:
    """Dimension d becomes ``places[d]``."""
    return lambda reach: reach.moved(places)


def unless(dim: int) -> Step:
    """Nothing changes, but not exactly known where `dim` matters."""
    return lambda reach: None if dim in reach.dims else reach


def in_turn(steps: Iterable[Step]) -> Step:
    """One step after the other."""
    every = list(steps)

    def step(reach: Reach) -> Reach | None:
        current: Reach | None = reach
        for one in every:
            current = current and one(current)
        return current

    return step


def window(dim: int, stride: int, offsets: Iterable[int]) -> Step:
    """Element i along `dim` reads elements ``stride * i + offset``."""
    kept = list(offsets)
    return lambda reach: reach.window(dim, stride, kept)


def resample(dim: int, period: int, step: int, taps: Callable[[int], Iterable[int]]) -> Step:
    """Element i along `dim` reads elements ``taps(i)``."""
    return lambda reach: reach.resample(dim, period, step, taps)


def permuted(order: Sequence[int]) -> Step:
    """Dimension i of the result is dimension ``order[i]``."""
    return renamed({d % len(order): i for i, d in enumerate(order)})


def reshaped(old: Shape, new: Shape) -> Step:
    """Dimensions are merged and split, the elements stay in their order."""

    def step(reach: Reach) -> Reach | None:
        for dim in reach.dims:
            if old[dim] == 1:
                reach = reach.whole(dim, 1)
        current: Reach | None = reach.moved({d: -1 - d for d in reach.dims})  # names that the new ones do not meet
        for left, right in _groups(old, new):
            current = current and _regroup(current, old, left, new, right)
        return current

    return step


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of dimensions, sizes of one left out, that hold the same elements before and after."""
    left = [d for d, size in enumerate(old) if size != 1]
    right = [d for d, size in enumerate(new) if size != 1]
    groups = []
    while left and right:
        mine, theirs = [left.pop(0)], [right.pop(0)]
        while (a := prod(old[d] for d in mine)) != (b := prod(new[d] for d in theirs)):
            if a < b:
                mine.append(left.pop(0))
            else:
                theirs.append(right.pop(0))
        groups.append((mine, theirs))
    return groups


def _regroup(reach: Reach, old: Shape, left: list[int], new: Shape, right: list[int]) -> Reach | None:
    width, near = old[left[-1]], -1 - left[-1]
    current: Reach | None = reach
    for dim in reversed(left[:-1]):
        current = current and current.merge(-1 - dim, near, width)
        width, near = width * old[dim], -1 - dim
    if current is None:
        return None
    current = current.moved({d: right[0] if d == near else d for d in current.dims})
    for place, (here, after) in enumerate(pairwise(right), 1):
        current = current and current.split(here, prod(new[d] for d in right[place:]), (here, after))
    return current
