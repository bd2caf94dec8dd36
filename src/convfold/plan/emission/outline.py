"""A sum that took its summands in gives them back where that costs the same, so that forwards that add stay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from convfold.graph.maps import Map
from convfold.graph.program import (
    Concat,
    Elementwise,
    Linear,
    Node,
    Program,
    Shift,
    ShiftPlus,
    Spatial,
    Term,
    is_identity,
)
from convfold.plan.emission.recipes import keys_of

__all__ = ["nearest", "outlined"]


def outlined(before: Program, after: Program) -> Program:
    """``w = K(s) + x`` as ``u = K(s); w = u + x``, where `w` was ``u + x`` and nothing else read `u`.

    Each term and bias goes to the summand whose tensors it is made of; a sum for which that is not clear, or in
    which a bias would not be taken in by a convolution, stays as planned.
    """
    live, was = set(after.live()), set(before.live())
    readers: dict[int, set[int]] = {}
    for value in was:
        for source in before.nodes[value].inputs if value in before.nodes else ():
            readers.setdefault(source, set()).add(value)
    nodes = dict(after.nodes)
    work = sorted(live)
    while work:
        value = work.pop()
        old, new = before.nodes.get(value), nodes.get(value)
        if not (isinstance(old, Linear) and isinstance(new, Linear)) or new is old or old.shift is not None:
            continue
        gone = [t.source for t in old.terms if t.source not in live]
        if not gone or len(set(gone)) < len(gone) or not all(readers[g] == {value} for g in gone):
            continue
        found = {gone[0]: new} if is_identity(old) else _summands(before, live, old, new, gone)
        if found is not None:
            nodes.update(found)
            nodes[value] = old
            live.update(found)
            work += found
    return replace(after, nodes=nodes)


def _same(a: Map, b: Map) -> bool:
    return a is b or (a.kind == b.kind and a.kind in ("identity", "scalar") and a.factor == b.factor)


def _summands(before: Program, live: set[int], old: Linear, new: Linear, gone: list[int]) -> dict[int, Linear] | None:
    """The definitions of the summands that are gone, or None."""
    rest = list(new.terms)
    for term in old.terms:
        if term.source in live:
            match = next((t for t in rest if t.source == term.source and _same(t.map, term.map)), None)
            if match is None:
                return None
            rest.remove(match)
        elif term.map.kind != "identity":
            return None
    reach = {value: set(_keys_above(before, live, value)) for value in gone}
    terms: dict[int, list[Term]] = {value: [] for value in gone}
    shifts: dict[int, list[Shift]] = {value: [] for value in gone}
    for term in rest:
        owner = _owner(reach, set(keys_of(term.map)))
        if owner is None:
            return None
        terms[owner].append(term)
    for shift in _flat(new.shift):
        owner = _owner(reach, set(keys_of(shift)))
        if owner is None:
            return None
        shifts[owner].append(shift)
    if not all(terms.values()) or any(s and not any(t.map.dense for t in terms[v]) for v, s in shifts.items()):
        return None
    return {v: Linear(tuple(terms[v]), _joined(shifts[v]), new.axis if shifts[v] else None) for v in gone}


def _owner(reach: dict[int, set[object]], keys: set[object]) -> int | None:
    owners = [value for value, held in reach.items() if keys and keys <= held]
    return owners[0] if len(owners) == 1 else None


def _keys_above(before: Program, live: set[int], value: int) -> Iterator[object]:
    stack, seen = [value], set()
    while stack:
        current = stack.pop()
        if current in seen or current in live:
            continue
        seen.add(current)
        node = before.nodes.get(current)
        if isinstance(node, Linear):
            yield from keys_of(*(term.map for term in node.terms), node.shift)
        stack += node.inputs if node is not None else ()


def _flat(shift: Shift | None) -> Iterator[Shift]:
    stack = [] if shift is None else [shift]
    while stack:
        current = stack.pop()
        if isinstance(current, ShiftPlus):
            stack += current.shifts
        else:
            yield current


def _joined(shifts: list[Shift]) -> Shift | None:
    return None if not shifts else shifts[0] if len(shifts) == 1 else ShiftPlus(tuple(shifts))


def nearest(before: Program, after: Program) -> Program:
    """The program with sources as near as they were: a value behind an identity, where the original read that one.

    A plan may look through a dropout or an identity that is still there for others; what reads it behind stays in
    the module that it was in, and after the dropout.
    """
    live = set(after.live())
    through = {
        v: n.inputs[0]
        for v, n in before.nodes.items()
        if is_identity(n) and not before.operators.get(v) and after.nodes.get(v) in (None, n)
    }
    nodes = dict(after.nodes)
    for value in live:
        node = nodes.get(value)
        if node is None or node is before.nodes.get(value) or value not in before.nodes:
            continue
        swap: dict[int, int] = {}
        for above in sorted(_above(before, live | through.keys(), value)):
            source = above
            while source in through:
                source = through[source]
                swap[source] = above
        wanted = {source: near for source, near in swap.items() if source in node.inputs}
        if wanted:
            nodes[value] = _swapped(node, wanted)
            for source in wanted.values():
                while source in through and source not in live:
                    nodes[source] = before.nodes[source]
                    source = through[source]
    return replace(after, nodes=nodes)


def _above(before: Program, ends: set[int], value: int) -> set[int]:
    """The nearest ones of `ends` among the values that `value` was computed from."""
    found: set[int] = set()
    stack, seen = list(before.nodes[value].inputs), set()
    while stack:
        current = stack.pop()
        if current in seen:
            continue
        seen.add(current)
        if current in ends:
            found.add(current)
        elif current in before.nodes:
            stack += before.nodes[current].inputs
    return found


def _swapped(node: Node, wanted: dict[int, int]) -> Node:
    if isinstance(node, Linear):
        terms = tuple(replace(term, source=wanted.get(term.source, term.source)) for term in node.terms)
        return replace(node, terms=terms)
    if isinstance(node, Concat):
        return replace(node, pieces=tuple(wanted.get(piece, piece) for piece in node.pieces))
    if isinstance(node, (Spatial, Elementwise)):
        return replace(node, source=wanted.get(node.source, node.source))
    return node
