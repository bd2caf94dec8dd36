"""A move, the laws that moves rest on, and the small things that they are written with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

from convfold.graph.maps import IDENTITY, Map
from convfold.graph.program import Concat, Linear, Node, Spatial, Term
from convfold.plan.search.rewrite import inline
from convfold.plan.search.state import Draft, State

__all__ = ["LAWS", "Move", "define", "fresh_value", "is_open", "same"]

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


def define(number: int, node: Node) -> Callable[[Draft], None]:
    """Writes one definition into a draft."""

    def write(draft: Draft) -> None:
        draft.changes[number] = node

    return write


def is_open(state: State, number: int) -> bool:
    """Whether a value may be written out in what reads it."""
    return number not in state.kept and isinstance(state.nodes.get(number), (Linear, Concat, Spatial))


def same(source: int) -> Linear:
    """The definition of a value that is another."""
    return Linear((Term(IDENTITY, source),))


def fresh_value(state: State, node: Linear, source: int, m: Map, draft: Draft, like: int | None = None) -> int:
    """A new value, `m` of `source`, with `source` written out in it if it is a sum itself.

    It has the shape of `like`, by default the source's, but for the channels.
    """
    shape = list(state.values[source if like is None or m.axis is None else like].shape)
    if m.axis is not None:
        shape[m.axis] = m.rows
    number = len(state.values) + len(draft.fresh)
    draft.fresh.append(replace(state.values[source], shape=tuple(shape)))
    if isinstance(state.nodes.get(source), Linear) and is_open(state, source):
        node = inline(state, node, prod(shape), frozenset({source}), draft)
    draft.changes[number] = node
    return number
