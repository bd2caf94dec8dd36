"""The moves of a plan: for one value, every rewriting worth a trial, and the law that each rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from convfold.graph.maps import seen
from convfold.graph.program import Concat, Linear, Term
from convfold.plan.search.concats import of_concat, split
from convfold.plan.search.move import Move, define, fresh_value, is_open, same
from convfold.plan.search.rewrite import inline, join, refuse, repeat, spatial_step
from convfold.plan.search.state import Draft, State

__all__ = ["moves"]

DEPTH, WIDTH = 6, 48


def moves(state: State, number: int) -> Iterator[Move]:
    """Every rewriting of one value that may pay, the largest first."""
    node = state.nodes[number]
    alternative = state.program.alternatives.get(number)
    if alternative is not None and alternative is not node and all(map(state.is_there, alternative.inputs)):
        yield Move("alternative", define(number, alternative))
    if number in state.program.baked and node is state.original.get(number) and number not in state.kept:
        yield Move("bake", define(number, replace(node)))
    yield from _before(state, number)
    if isinstance(node, Linear):
        yield from _inlinings(state, number)
        yield from _dissolve(state, number)
        yield from _behind(state, number, node)
        yield from split(state, number, node)
    elif isinstance(node, Concat):
        yield from of_concat(state, number, node)


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
            if is_open(state, source):
                following += state.nodes[source].inputs
        layer, depth = list(dict.fromkeys(following)), depth + 1
    position = {source: index for index, source in enumerate(order)}
    above: dict[int, int] = {}
    stack = list(order)
    while stack:
        source = stack[-1]
        parents = [p for p in state.nodes[source].inputs if p in position] if is_open(state, source) else []
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
    openable = [source for source in above if is_open(state, source)]
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
        node = state.nodes[number]
        # A pooling that pointwise maps shall pass is written out itself, like a `Spatial`.
        passed = commute and spatial_step(state, number) is not None
        whole = node if isinstance(node, Linear) and not passed else same(number)
        found = inline(state, whole, state.size(number), inside | {number}, draft, commute)
        if number in found.inputs:
            raise refuse("nothing pointwise stands before what treats every channel alike")
        draft.changes[number] = join(state, found, draft) if joined else found

    return write


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
    if isinstance(state.nodes.get(source), Linear) and is_open(state, source):
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
    if not path or not isinstance(below, Linear) or not is_open(state, source):
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
        front = fresh_value(state, Linear((Term(m, source),), node.shift, at), source, m, draft)
        ahead = repeat(state, tuple(reversed(path)), front, m.axis, draft)
        # The last one is the value itself, under its own number.
        draft.changes[number] = draft.changes.pop(ahead) if ahead >= len(state.values) else same(ahead)

    yield Move("behind", write)
