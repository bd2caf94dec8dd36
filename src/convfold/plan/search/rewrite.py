"""Inlining: a value written over the sources of its sources, and merged into as few terms as there can be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from convfold.errors import NotFoldable, Refusal
from convfold.graph.joins import block, columns, is_block_diagonal, plus
from convfold.graph.maps import Given, Map, after, keeps_constants, seen
from convfold.graph.program import (
    Concat,
    Linear,
    Shift,
    ShiftMap,
    ShiftPlus,
    ShiftThrough,
    Spatial,
    Term,
    Value,
)
from convfold.plan.search.price import has_bias_map, term_macs
from convfold.plan.search.state import Draft, State

__all__ = ["inline", "join", "merge", "push", "refuse", "repeat", "spatial_step"]


def refuse(reason: str) -> NotFoldable:
    return NotFoldable(Refusal("region", reason))


def push(shift: Shift, axis: int | None, m: Map, before: Value) -> tuple[Shift, int | None]:
    """A bias of the value `before` behind the map `m`, and its axis; a map over positions where it must be one."""
    if m.kind == "identity":
        return shift, axis
    if axis is not None and m.axis is not None and axis != m.axis:
        raise refuse("its bias lies on another axis than the map after it mixes")
    if m.axis is not None and before.shape[m.axis] != m.cols:
        raise refuse("its bias is of another width")
    if keeps_constants(m):
        return ShiftThrough(shift, m), axis if m.axis is None else m.axis
    if m.kind == "transposed" or axis not in (None, 1):
        raise refuse("its bias is not constant behind a transposed convolution")
    return ShiftMap(shift, m, before.shape[2:]), m.axis


@dataclass(frozen=True)
class Step:
    """How an operator that treats every channel alike moves axes, and whether a bias passes it."""

    axes: dict[int, int]
    spread: tuple[int, int]
    ones: bool


def spatial_step(state: State, number: int) -> Step | None:
    """The value `number` seen as such an operator on its one source: a `Spatial`, or a pooling alone."""
    node = state.nodes.get(number)
    if isinstance(node, Spatial):
        return Step(dict(node.axes), node.spread, node.ones)
    if isinstance(node, Linear) and len(node.terms) == 1 and node.shift is None and node.terms[0].map.kind == "pool":
        m = node.terms[0].map
        taps = prod(axis.kernel for axis in m.window)
        average = isinstance(m.recipe, Given) and m.recipe.key == ("average", taps)
        return Step({1: 1}, (1, 1), average and keeps_constants(m))
    return None


def repeat(state: State, path: tuple[int, ...], source: int, axis: int | None, draft: Draft) -> int:
    """The spatial operators `path`, first to last, on another source: new values where there are none yet."""
    for number in path:
        node, step = state.nodes[number], spatial_step(state, number)
        assert step is not None
        shape = list(state.values[number].shape)
        if axis is not None:
            width = state.value(source, draft).shape[axis]
            axis = step.axes[axis]
            shape[axis] = width * step.spread[1] // step.spread[0]
        value = replace(state.values[number], shape=tuple(shape))
        if isinstance(node, Spatial):
            again: Spatial | Linear = replace(node, source=source)
        else:
            assert isinstance(node, Linear)
            m = replace(node.terms[0].map, rows=shape[1], cols=shape[1], groups=shape[1])
            again = Linear((Term(m, source),))
        source = state.find_or_add(again, value, draft)
    return source


def _through(path: tuple[int, ...], state: State, m: Map) -> Map:
    """A pointwise map that stood before the spatial operators `path`, seen behind them."""
    if m.axis is None:
        return m
    axis, spread = m.axis, 1
    for number in path:
        step = spatial_step(state, number)
        if step is None or axis not in step.axes or step.spread[0] != 1:
            raise refuse("what stands between does not treat every channel alike")
        axis, spread = step.axes[axis], spread * step.spread[1]
    return seen(m, axis, spread)


def _climb(state: State, number: int, inside: frozenset[int]) -> tuple[tuple[int, ...], int]:
    """The spatial operators from `number` upwards within `inside`, first to last, and what they stand on."""
    path: list[int] = []
    while number in inside and spatial_step(state, number) is not None:
        path.append(number)
        number = state.nodes[number].inputs[0]
    return tuple(reversed(path)), number


def inline(
    state: State, node: Linear, size: int, inside: frozenset[int], draft: Draft, commute: bool = False
) -> Linear:
    """The definition `node` of a value of `size` elements with all values `inside` written out.

    A pooling is a kernel like others; with `commute` pointwise maps move behind it instead. Terms of one source
    are merged. Raises NotFoldable, with the reason, where a map does not pass.
    """
    work = [(term.map, term.source) for term in node.terms]
    shifts, axis = ([] if node.shift is None else [node.shift]), node.axis
    done: list[Term] = []
    while work:
        m, source = work.pop()
        found = state.nodes.get(source) if source in inside else None
        alike = isinstance(found, Spatial) or (commute and spatial_step(state, source) is not None)
        if found is None:
            done.append(Term(m, source))
        elif alike:
            path, base = _climb(state, source, inside)
            below = state.nodes.get(base)
            if base not in inside or not isinstance(below, Linear):
                done.append(Term(m, source))
                continue
            for term in below.terms:
                behind = after(_through(path, state, term.map), m)
                done.append(Term(behind, repeat(state, path, term.source, term.map.axis, draft)))
            if below.shift is not None:
                shift, at = _shift_through(state, path, below)
                axis = _add(shifts, axis, *push(shift, at, m, state.values[source]))
        elif isinstance(found, Linear):
            work += [(after(term.map, m), term.source) for term in found.terms]
            if found.shift is not None:
                axis = _add(shifts, axis, *push(found.shift, found.axis, m, state.values[source]))
        elif isinstance(found, Concat):
            work += _pieces(state, found, m)
        else:
            done.append(Term(m, source))
    shift = None if not shifts else shifts[0] if len(shifts) == 1 else ShiftPlus(tuple(shifts))
    terms = merge(done, size)
    along = {axis} if shift is not None and not shift.mapped and axis is not None else set()
    # A convolution's own bias lies along its channels, and it has no other.
    if along and {term.map.axis for term in terms if term.map.dense} - along:
        raise refuse("a bias lies on another axis than the channels of the convolution that would take it")
    return Linear(terms, shift, axis)


def _add(shifts: list[Shift], axis: int | None, shift: Shift, at: int | None) -> int | None:
    if shifts and axis is not None and at is not None and axis != at:
        raise refuse("two biases lie on different axes")
    shifts.append(shift)
    return at if axis is None else axis


def _shift_through(state: State, path: tuple[int, ...], below: Linear) -> tuple[Shift, int | None]:
    assert below.shift is not None
    if has_bias_map(below):
        raise refuse("a bias map does not pass what stands between")
    axis = below.axis
    for number in path:
        step = spatial_step(state, number)
        if step is None or not step.ones:
            raise refuse("its bias is not constant behind what pads with zeros")
        if axis is not None:
            if axis not in step.axes or step.spread != (1, 1):
                raise refuse("its bias lies on an axis that does not stay whole")
            axis = step.axes[axis]
    return below.shift, axis


def _pieces(state: State, concat: Concat, m: Map) -> list[tuple[Map, int]]:
    if m.axis != concat.axis or is_block_diagonal(m) or m.kind == "select":
        raise refuse("the map after the concatenation does not split into a sum over its pieces")
    work, start = [], 0
    for piece in concat.pieces:
        width = state.values[piece].shape[concat.axis]
        work.append((block(m, start, start + width), piece))
        start += width
    return work


def merge(terms: list[Term], size: int) -> tuple[Term, ...]:
    """Terms of one source become one wherever that costs no more multiply-accumulates, widest first."""
    by_source: dict[int, list[Map]] = {}
    for term in terms:
        by_source.setdefault(term.source, []).append(term.map)
    merged: list[Term] = []
    for source, maps in by_source.items():
        merged += [Term(m, source) for m in _merge(maps, size)]
    return tuple(sorted(merged, key=lambda term: not term.map.dense))


def _merge(maps: list[Map], size: int) -> list[Map]:
    if len(maps) == 1:
        return maps

    def macs(m: Map) -> int:
        # What is read only matters to transposed convolutions, whose sum reads the same.
        return term_macs(m, 0, size)

    rest = sorted(maps, key=lambda m: (-macs(m), m.kind == "identity"))
    done: list[Map] = []
    while rest:
        widest, others = rest[0], rest[1:]
        together, apart = [widest], []
        for other in others:
            try:
                whole = plus((*together, other))
            except NotFoldable:
                apart.append(other)
                continue
            # A pooling or a selection alone is cheaper than as a convolution.
            if macs(whole) > sum(map(macs, together)) + macs(other):
                apart.append(other)
            else:
                together.append(other)
        done.append(plus(tuple(together)))
        rest = apart
    return done


def join(state: State, found: Linear, draft: Draft) -> Linear:
    """Terms of different sources as one convolution over the concatenation of the sources: ``[K1 | K2][x1; x2]``."""
    by_axis = [term for term in found.terms if term.map.axis is not None]
    if len(by_axis) < 2 or len(by_axis) != len(found.terms):
        raise refuse("there are not two terms with kernels")
    axis = by_axis[0].map.axis
    assert axis is not None
    ordered = tuple(sorted(by_axis, key=lambda term: term.source))
    shapes = [state.value(term.source, draft).shape for term in ordered]
    if len({(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}) > 1:
        raise refuse("the sources differ in size")
    widths = tuple(shape[axis] for shape in shapes)
    whole = columns(tuple(term.map for term in ordered), widths)
    first = state.value(ordered[0].source, draft)
    shape = (*first.shape[:axis], sum(widths), *first.shape[axis + 1 :])
    concat = Concat(tuple(term.source for term in ordered), axis)
    source = state.find_or_add(concat, replace(first, shape=shape), draft)
    return Linear((Term(whole, source),), found.shift, found.axis)
