"""Changes of layout: views, permutations, pixel shuffles, and the channel shuffles that are made of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod

from convfold.graph.captured import Ref
from convfold.graph.layout import Layout, Part, identity, reshaped
from convfold.graph.maps import IDENTITY, Map, select
from convfold.graph.operation import Operation, plain, rule
from convfold.graph.program import Linear, Node, Spatial, Term
from convfold.graph.sizes import Pair

__all__ = ["Views", "layout_after", "shuffled"]

ROW_MAJOR = (
    "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "clone",
    "view_as", "reshape_as", "alias", "detach", "lift_fresh_copy", "ravel", "_reshape_alias", "_reshape_copy",
)  # fmt: skip
PERMUTED = ("transpose", "swapaxes", "swapdims", "t", "mT", "numpy_T", "permute", "movedim", "moveaxis")
PIXELS = ("pixel_shuffle", "pixel_unshuffle")


def _permutation(op: Operation, rank: int) -> list[int]:
    """For each axis after, the one before."""
    order = list(range(rank))
    if op.name in ("t", "numpy_T", "mT"):
        if op.name == "mT":
            return [*order[:-2], rank - 1, rank - 2]
        return order[::-1]
    if op.name == "permute":
        return [axis % rank for axis in op["dims"]]
    if op.name in ("movedim", "moveaxis"):
        ends = (op["source"], op["destination"])
        source, target = ([end] if isinstance(end, int) else list(end) for end in ends)
        rest = iter(axis for axis in order if axis not in {s % rank for s in source})
        placed = {t % rank: s % rank for s, t in zip(source, target, strict=True)}
        return [placed[axis] if axis in placed else next(rest) for axis in order]
    first, second = (axis % rank for axis in list(op.named.values())[1:3])
    order[first], order[second] = order[second], order[first]
    return order


def _pixels(op: Operation, layout: Layout, before: tuple[Pair, ...], after: tuple[Pair, ...]) -> Layout | None:
    shuffles = op.name == "pixel_shuffle"
    factor = op["upscale_factor"] if shuffles else op["downscale_factor"]
    r: Pair = (factor, factor)
    lead, small = before[:-3], (before if shuffles else after)[-2:]
    if shuffles:
        split = (*lead, after[-3], r, r, *small)
        order = (0, 3, 1, 4, 2)
    else:
        split = (*lead, before[-3], small[0], r, small[1], r)
        order = (0, 2, 4, 1, 3)
    inner = reshaped(layout, split)
    if inner is None:
        return None
    n = len(lead)
    return reshaped((*inner[:n], *(inner[n + axis] for axis in order)), after)


def layout_after(op: Operation, layout: Layout, before: tuple[Pair, ...]) -> Layout | None:
    """The layout after the operator, for the layout of its argument, of shape `before`; None where it is unknown."""
    after = op.sizes.pairs(op.out.dims)
    if op.name in ROW_MAJOR:
        return reshaped(layout, after)
    if op.name in PERMUTED:
        return tuple(layout[axis] for axis in _permutation(op, len(layout))) if len(layout) else layout
    return _pixels(op, layout, before, after) if op.name in PIXELS else None


def _size(parts: tuple[Part, ...]) -> int | None:
    """The number of positions, where all inputs share it."""
    counts = [prod(part.size[point] for part in parts) for point in (0, 1)]
    return counts[0] if counts[0] == counts[1] else None


def _spread(axis: tuple[Part, ...], whole: Part) -> tuple[int, int] | None:
    """How channels of the whole axis lie on an axis after; None where they do not lie in runs."""
    if not axis or axis[0].axis != whole.axis:
        return None
    if axis[0] == whole:
        after = _size(axis[1:])
        return None if after is None else (1, after)
    first = axis[0]
    if len(axis) > 1 or any(first.size[k] * first.stride[k] != whole.size[k] for k in (0, 1)):
        return None
    run = first.stride
    return (run[0], 1) if run[0] == run[1] else None


def channel_axes(layout: Layout, shape: tuple[Pair, ...]) -> tuple[tuple[tuple[int, int], ...], tuple[int, int]]:
    """The axes that stay whole, with their new places, or else one that becomes runs, with its spread."""
    found: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for before, parts in enumerate(identity(shape)):
        for after, axis in enumerate(layout):
            spread = _spread(axis, parts[0]) if parts else None
            if spread is not None:
                found.setdefault(spread, []).append((before, after))
                break
    whole = found.pop((1, 1), [])
    runs = [(spread, axes) for spread, axes in found.items() if any(before for before, _ in axes)]
    if any(before for before, _ in whole) or not runs:
        return tuple(whole), (1, 1)
    return tuple(runs[0][1]), runs[0][0]


def shuffled(layout: Layout, shape: tuple[Pair, ...]) -> Map | None:
    """The selection on one axis that a chain of views amounts to, or the identity; None for anything else."""
    same = identity(shape)
    if len(layout) != len(shape):
        return None
    moved = [axis for axis, parts in enumerate(layout) if parts != same[axis]]
    if not moved:
        return IDENTITY
    axis = moved[0]
    if len(moved) > 1 or axis == 0 or any(part.axis != axis for part in layout[axis]):
        return None
    count = _size(same[axis])
    if count is None or _size(layout[axis]) != count or any(part.stride[0] != part.stride[1] for part in layout[axis]):
        return None
    digits = product(*(range(part.size[0]) for part in layout[axis]))
    strides = [part.stride[0] for part in layout[axis]]
    return select(tuple(sum(d * s for d, s in zip(row, strides, strict=True)) for row in digits), count, axis)


class Views:
    """What each value is a view of: a chain of views is seen as one, from the first value of the chain.

    `shape` gives the sizes of a value.
    """

    def __init__(self, shape: Callable[[Ref], tuple[Pair, ...]]) -> None:
        self._shape = shape
        self._known: dict[int, tuple[int, Layout]] = {}

    def base(self, source: Ref) -> tuple[int, Layout]:
        """The value that `source` is a view of, itself where it is none, and the layout."""
        return self._known.get(source.value) or (source.value, identity(self._shape(source)))

    def note(self, op: Operation) -> None:
        """Note the result of an operator, where it is a view of its first argument."""
        source = next(iter(op.named.values()), None)
        if not isinstance(source, Ref):
            return
        base, layout = self.base(source)
        chained = layout_after(op, layout, self._shape(source))
        if chained is not None and op.meta(source).dtype == op.out.dtype:
            self._known[op.number] = (base, chained)


@rule(*ROW_MAJOR, *PERMUTED, *PIXELS)
def view(op: Operation) -> Node | None:
    """The elements in another arrangement; together with the views before it perhaps a shuffle of channels."""
    source = op.source
    if source is None:
        return None
    base, layout = op.base(source)
    before = op.sizes.pairs(op.dims(source))
    chained = layout_after(op, layout, before)
    start = op.sizes.pairs(op.dims(Ref(base)))
    if base != source.value and chained is not None:
        found = shuffled(chained, start)
        if found is not None:
            return Linear((Term(found, base),))
    one = layout_after(op, identity(before), before)
    if one is None:
        return Spatial(source.value, (), True, True, op.number)
    axes, spread = channel_axes(one, before)
    return Spatial(source.value, axes, True, True, op.number, spread)


@rule("expand", "expand_as", "broadcast_to")
def expand(op: Operation) -> Node | None:
    """Axes of size one, repeated."""
    source = op.source
    if source is None:
        return None
    before, after = op.sizes.pairs(op.dims(source)), op.sizes.pairs(op.out.dims)
    offset = len(after) - len(before)
    axes = tuple((axis, axis + offset) for axis, size in enumerate(before) if size == after[axis + offset])
    return Spatial(source.value, axes, True, True, op.number)


@rule("to", "_to_copy", "type_as")
def cast(op: Operation) -> Node | None:
    """A copy of the same type on the same device."""
    source = op.source
    if source is None or not plain(*list(op.named.values())[2:]):
        return None
    return Spatial(source.value, tuple((a, a) for a in range(len(op.out.dims))), True, True, op.number)
