"""The moves of a plan: for one value, every rewriting worth a trial, and the law that each rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import prod

from convfold.graph.maps import IDENTITY, Map, block, is_block_diagonal, rows, seen
from convfold.graph.program import Concat, Elementwise, Linear, Node, ShiftJoin, ShiftPart, Spatial, Term
from convfold.plan.search.rewrite import inline, join, refuse, repeat, spatial_step
from convfold.plan.search.state import Draft, State

__all__ = ["LAWS", "Move", "moves"]

DEPTH, WIDTH = 6, 48

LAWS: dict[str, str] = {
    "alternative": "its own equation: the module says what it computes",
    "bake": "what a forward computes of constants is a constant",
    "inline": "chains compose, branches of one input add up",
    "columns": "a convolution over a concatenation takes in its pieces' maps by columns",
    "dissolve": "a value is taken into everything that reads it",
    "before": "a pointwise map commutes with what treats every channel alike: moved behind it",
    "behind": "a pointwise map commutes with what treats every channel alike: moved before it",
    "split": "a per-channel map of a concatenation is one of each piece",
    "rows": "convolutions of one input that are concatenated are one, kernels one under the other",
    "sink": "one function of each element commutes with concatenation",
    "flatten": "a concatenation of concatenations is one, and of one piece is that piece",
}


@dataclass(frozen=True)
class Move:
    """One rewriting: a key of `LAWS`, and the function that writes it into a draft."""

    law: str
    write: Callable[[Draft], None]


def moves(state: State, number: int) -> Iterator[Move]:
    """Every rewriting of one value that may pay, the largest first."""
    node = state.nodes[number]
    alternative = state.program.alternatives.get(number)
    if alternative is not None and alternative is not node and all(map(state.is_there, alternative.inputs)):
        yield Move("alternative", _define(number, alternative))
    if number in state.program.baked and node is state.original.get(number) and number not in state.kept:
        yield Move("bake", _define(number, replace(node)))
    yield from _before(state, number)
    if isinstance(node, Linear):
        yield from _inlinings(state, number)
        yield from _dissolve(state, number)
        yield from _behind(state, number, node)
        yield from _split(state, number, node)
    elif isinstance(node, Concat):
        yield from _concat(state, number, node)


def _define(number: int, node: Node) -> Callable[[Draft], None]:
    def write(draft: Draft) -> None:
        draft.changes[number] = node

    return write


def _open(state: State, number: int) -> bool:
    """Whether a value may be written out in what reads it."""
    return number not in state.kept and isinstance(state.nodes.get(number), (Linear, Concat, Spatial))


def ancestors(state: State, number: int) -> dict[int, int]:
    """The values that `number` is a linear function of, near ones first, each with the set of all above it.

    Sets are bits, by position in the order; roots, which are not written out, are among them.
    """
    order: list[int] = []
    layer, depth = list(dict.fromkeys(state.nodes[number].inputs)), 0
    seen_: set[int] = set()
    while layer and depth < DEPTH and len(order) < WIDTH:
        following: list[int] = []
        for source in layer:
            if source in seen_ or len(order) >= WIDTH:
                continue
            seen_.add(source)
            order.append(source)
            if _open(state, source):
                following += state.nodes[source].inputs
        layer, depth = list(dict.fromkeys(following)), depth + 1
    position = {source: index for index, source in enumerate(order)}
    above: dict[int, int] = {}
    stack = list(order)
    while stack:
        source = stack[-1]
        parents = [p for p in state.nodes[source].inputs if p in position] if _open(state, source) else []
        missing = [parent for parent in parents if parent not in above]
        if source in above or missing:
            stack.pop() if source in above else stack.extend(missing)
            continue
        above[source] = 1 << position[source]
        for parent in parents:
            above[source] |= above[parent]
        stack.pop()
    return {source: above[source] for source in order}


def _inlinings(state: State, number: int) -> Iterator[Move]:
    above = ancestors(state, number)
    position = {source: index for index, source in enumerate(above)}
    openable = [source for source in above if _open(state, source)]
    if not openable:
        return
    inputs = state.nodes[number].inputs
    sets: list[frozenset[int]] = [frozenset(openable)]
    for root in above:
        bit = 1 << position[root]
        sets.append(frozenset(a for a in openable if a != root and above[a] & bit))
    for source in dict.fromkeys(inputs):
        if source in openable:
            sets.append(frozenset({source}))
            # One branch of a value at a time: the others may lead on to where nothing is gained.
            sets += [frozenset({source, inner}) for inner in state.nodes[source].inputs if inner in openable]
    done: set[frozenset[int]] = {frozenset()}
    for inside in sorted(sets, key=len, reverse=True):
        if inside in done:
            continue
        done.add(inside)
        yield Move("inline", _inline(state, number, inside))
        if any(isinstance(state.nodes[a], Linear) and spatial_step(state, a) for a in inside):
            yield Move("before", _inline(state, number, inside, commute=True))
        if any(isinstance(state.nodes[a], Concat) for a in inside):
            yield Move("columns", _inline(state, number, inside, joined=True))


def _inline(
    state: State, number: int, inside: frozenset[int], joined: bool = False, commute: bool = False
) -> Callable[[Draft], None]:
    def write(draft: Draft) -> None:
        node = state.nodes[number] if not commute else None
        # A pooling that pointwise maps shall pass is written out itself, like a `Spatial`.
        whole = node if isinstance(node, Linear) else _itself(state, number)
        found = inline(state, whole, state.size(number), inside | {number}, draft, commute)
        if number in found.inputs:
            raise refuse("nothing pointwise stands before what treats every channel alike")
        draft.changes[number] = join(state, found, draft) if joined else found

    return write


def _itself(state: State, number: int) -> Linear:
    """A value as a sum: its own terms, or, for what treats every channel alike, itself once."""
    node = state.nodes[number]
    if isinstance(node, Linear) and spatial_step(state, number) is None:
        return node
    return Linear((Term(IDENTITY, number),))


def _dissolve(state: State, number: int) -> Iterator[Move]:
    readers = state.readers[number]
    if len(readers) < 2 or number in state.outputs or not all(isinstance(state.nodes[r], Linear) for r in readers):
        return

    def write(draft: Draft) -> None:
        for reader in sorted(readers):
            node = state.nodes[reader]
            assert isinstance(node, Linear)
            draft.changes[reader] = inline(state, node, state.size(reader), frozenset({number}), draft)

    yield Move("dissolve", write)


def _before(state: State, number: int) -> Iterator[Move]:
    """``S(U(x)) = U(S(x))``: a pooling of a convolution becomes a convolution of a pooling."""
    if number in state.kept or spatial_step(state, number) is None:
        return
    source = state.nodes[number].inputs[0]
    if isinstance(state.nodes.get(source), Linear) and _open(state, source):
        yield Move("before", _inline(state, number, frozenset({source}), commute=True))


def _behind(state: State, number: int, node: Linear) -> Iterator[Move]:
    """``T(S(U(x))) = S((T o U)(x))`` with T pointwise: what follows a change of layout joins what stands before."""
    if len(node.terms) != 1 or number in state.kept:
        return
    term, path = node.terms[0], []
    source = term.source
    while source not in state.kept and (step := spatial_step(state, source)) is not None and step.ones:
        path.append(source)
        source = state.nodes[source].inputs[0]
    below = state.nodes.get(source)
    if not path or not isinstance(below, Linear) or not _open(state, source):
        return

    def write(draft: Draft) -> None:
        m, at = term.map, node.axis
        for place in path:  # from the last to the first
            step = spatial_step(state, place)
            assert step is not None
            back = {after: before for before, after in step.axes.items()}
            if step.spread[1] != 1 or (m.axis is not None and m.axis not in back):
                raise refuse("what stands between does not treat every channel alike")
            if at is not None and at not in back:
                raise refuse("its bias lies on an axis that does not stay whole")
            if step.spread != (1, 1) and node.shift is not None:
                raise refuse("its bias lies on channels that were positions before")
            m = seen(m, back[m.axis], step.spread[0]) if m.axis is not None else m
            at = back[at] if at is not None else None
        front = _fresh(state, Linear((Term(m, source),), node.shift, at), source, m, draft)
        ahead = repeat(state, tuple(reversed(path)), front, m.axis, draft)
        # The last one is the value itself, under its own number.
        draft.changes[number] = draft.changes.pop(ahead) if ahead >= len(state.values) else _same(ahead)

    yield Move("behind", write)


def _same(source: int) -> Linear:
    return Linear((Term(IDENTITY, source),))


def _fresh(state: State, node: Linear, source: int, m: Map, draft: Draft) -> int:
    """A new value, `m` of `source`, with `source` written out in it if it is a sum itself."""
    shape = list(state.values[source].shape)
    if m.axis is not None:
        shape[m.axis] = m.rows
    number = len(state.values) + len(draft.fresh)
    draft.fresh.append(replace(state.values[source], shape=tuple(shape)))
    if isinstance(state.nodes.get(source), Linear) and _open(state, source):
        node = inline(state, node, prod(shape), frozenset({source}), draft)
    draft.changes[number] = node
    return number


def _split(state: State, number: int, node: Linear) -> Iterator[Move]:
    """``D [x; y] = [D1 x; D2 y]`` with D block-diagonal, each block taken in by its piece."""
    if len(node.terms) != 1 or number in state.kept:
        return
    term = node.terms[0]
    concat = state.nodes.get(term.source)
    if not isinstance(concat, Concat) or not _open(state, term.source) or not is_block_diagonal(term.map):
        return
    if term.map.axis not in (None, concat.axis) or (node.shift is not None and node.axis not in (None, concat.axis)):
        return

    def write(draft: Draft) -> None:
        pieces, start = [], 0
        for piece in concat.pieces:
            width = state.values[piece].shape[concat.axis]
            part = block(term.map, start, start + width)
            shift = node.shift
            if shift is not None and node.axis is not None:
                shift = ShiftPart(shift, start, start + width)
            pieces.append(_fresh(state, Linear((Term(part, piece),), shift, node.axis), piece, part, draft))
            start += width
        draft.changes[number] = replace(concat, pieces=tuple(pieces))

    yield Move("split", write)


def _concat(state: State, number: int, node: Concat) -> Iterator[Move]:
    if number in state.kept:
        return
    if len(node.pieces) == 1:
        yield Move("flatten", _define(number, _same(node.pieces[0])))
        return
    defined = [state.nodes.get(piece) for piece in node.pieces]
    own = [_open(state, piece) and state.readers[piece] == {number} for piece in node.pieces]
    nested = [isinstance(d, Concat) and d.axis == node.axis and o for d, o in zip(defined, own, strict=True)]
    if any(nested):
        pieces = [d.pieces if n else (p,) for p, d, n in zip(node.pieces, defined, nested, strict=True)]
        yield Move("flatten", _define(number, replace(node, pieces=tuple(p for some in pieces for p in some))))
    functions = [d for d in defined if isinstance(d, Elementwise)]
    if len(functions) == len(defined) > 1 and len({f.key for f in functions}) == 1:
        yield Move("sink", _sink(state, number, node, functions))
    for start in range(len(defined) - 1):
        stop = start
        while stop < len(defined) and own[stop] and _same_root(defined[start], defined[stop]):
            stop += 1
        if stop - start > 1 and (
            start == 0 or not own[start - 1] or not _same_root(defined[start - 1], defined[start])
        ):
            yield Move("rows", _stack(state, number, node, start, stop))


def _same_root(a: Node | None, b: Node | None) -> bool:
    return (
        isinstance(a, Linear)
        and isinstance(b, Linear)
        and len(a.terms) == len(b.terms) == 1
        and a.terms[0].source == b.terms[0].source
    )


def _sink(state: State, number: int, node: Concat, functions: list[Elementwise]) -> Callable[[Draft], None]:
    def write(draft: Draft) -> None:
        pieces = tuple(function.source for function in functions)
        source = state.find_or_add(Concat(pieces, node.axis), state.values[number], draft)
        draft.changes[number] = replace(functions[0], source=source)

    return write


def _stack(state: State, number: int, node: Concat, start: int, stop: int) -> Callable[[Draft], None]:
    def write(draft: Draft) -> None:
        parts = [state.nodes[piece] for piece in node.pieces[start:stop]]
        linear = [part for part in parts if isinstance(part, Linear)]
        source, axes = linear[0].terms[0].source, {part.axis for part in linear if part.shift is not None}
        if len(axes) > 1 or not axes <= {node.axis} or any(part.terms[0].map.axis != node.axis for part in linear):
            raise refuse("the pieces' kernels or biases lie on another axis than the concatenation")
        widths = [state.values[piece].shape[node.axis] for piece in node.pieces[start:stop]]
        shift = (
            ShiftJoin(tuple((part.shift, width) for part, width in zip(linear, widths, strict=True))) if axes else None
        )
        whole = Linear((Term(rows(tuple(part.terms[0].map for part in linear)), source),), shift, node.axis)
        if len(linear) == len(node.pieces):
            draft.changes[number] = whole
            return
        merged = len(state.values) + len(draft.fresh)
        shape = list(state.values[node.pieces[start]].shape)
        shape[node.axis] = sum(widths)
        draft.fresh.append(replace(state.values[node.pieces[start]], shape=tuple(shape)))
        draft.changes[merged] = whole
        draft.changes[number] = replace(node, pieces=(*node.pieces[:start], merged, *node.pieces[stop:]))

    return write
