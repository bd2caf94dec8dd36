"""The moves of concatenations: split, stacked, sunk through, flattened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from convfold.graph.joins import block, is_block_diagonal, rows
from convfold.graph.program import Concat, Elementwise, Linear, Node, ShiftJoin, ShiftPart, Term
from convfold.plan.search.move import Move, define, fresh_value, is_open, same
from convfold.plan.search.rewrite import refuse
from convfold.plan.search.state import Draft, State

__all__ = ["of_concat", "split"]


def split(state: State, number: int, node: Linear) -> Iterator[Move]:
    """``D [x; y] = [D1 x; D2 y]`` with D block-diagonal, each block taken in by its piece."""
    if len(node.terms) != 1 or number in state.kept:
        return
    term = node.terms[0]
    concat = state.nodes.get(term.source)
    if not isinstance(concat, Concat) or not is_open(state, term.source) or not is_block_diagonal(term.map):
        return
    if term.map.axis not in (None, concat.axis) or (node.shift is not None and node.axis not in (None, concat.axis)):
        return

    def write(draft: Draft) -> None:
        pieces, start, row = [], 0, 0
        for piece in concat.pieces:
            width = state.values[piece].shape[concat.axis]
            part = block(term.map, start, start + width)
            # Groups may have more outputs than inputs, or fewer: the bias is one of outputs.
            height = width if part.kind in ("identity", "scalar") else part.rows
            shift = node.shift
            if shift is not None and node.axis is not None:
                shift = ShiftPart(shift, row, row + height)
            pieces.append(
                fresh_value(state, Linear((Term(part, piece),), shift, node.axis), piece, part, draft, number)
            )
            start, row = start + width, row + height
        draft.changes[number] = replace(concat, pieces=tuple(pieces))

    yield Move("split", write)


def of_concat(state: State, number: int, node: Concat) -> Iterator[Move]:
    """Every rewriting of a concatenation."""
    if number in state.kept:
        return
    if len(node.pieces) == 1:
        yield Move("flatten", define(number, same(node.pieces[0])))
        return
    defined = [state.nodes.get(piece) for piece in node.pieces]
    own = [is_open(state, piece) and state.readers[piece] == {number} for piece in node.pieces]
    nested = [isinstance(d, Concat) and d.axis == node.axis and o for d, o in zip(defined, own, strict=True)]
    if any(nested):
        pieces = [d.pieces if n else (p,) for p, d, n in zip(node.pieces, defined, nested, strict=True)]
        yield Move("flatten", define(number, replace(node, pieces=tuple(p for some in pieces for p in some))))
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
