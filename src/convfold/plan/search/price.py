"""What a definition executes: multiply-accumulates, convolutions, operators, elements written."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import NamedTuple

from convfold.geometry import Axis
from convfold.graph.maps import Map
from convfold.graph.program import (
    Concat,
    Linear,
    Node,
    Opaque,
    Program,
    Spatial,
)

__all__ = ["FREE", "Objective", "Price", "Pricer", "by_latency", "by_macs", "by_operators", "has_bias_map", "price"]


class Price(NamedTuple):
    """A cost, or with minus signs a difference of costs."""

    macs: int = 0
    convolutions: int = 0
    operators: int = 0
    elements: int = 0
    seconds: float = 0.0

    def plus(self, other: Price) -> Price:
        return Price(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: Price) -> Price:
        return Price(*(a - b for a, b in zip(self, other, strict=True)))


FREE = Price()
Objective = Callable[[Price], bool]
Pricer = Callable[[Program, int, Node, bool], Price]


def by_macs(change: Price) -> bool:
    """Fewer MACs, then convolutions, then operators, then elements; none of the first three may rise."""
    return change[:4] < FREE[:4] and max(change[:3]) <= 0


def by_operators(change: Price) -> bool:
    """Fewer operators, whatever they do; among equals, fewer MACs."""
    return (change.operators, *change[:4]) < (0, *FREE[:4])


def by_latency(change: Price) -> bool:
    """Fewer seconds, as measured; among equals, what `by_macs` would choose."""
    # Sums of rounded times differ in their last digits.
    return change.seconds < -1e-9 or (abs(change.seconds) <= 1e-9 and by_macs(change))


def price(program: Program, number: int, node: Node, original: bool) -> Price:
    """The price of `node` as the definition of value `number`; `original` if it is the frontend's own."""
    size = prod(program.values[number].shape)
    known = program.operators.get(number) if original else None
    if isinstance(node, Opaque):
        operators = node.operators if known is None else known
        return Price(node.macs, node.convolutions, operators, operators * size)
    if not isinstance(node, Linear):
        # A frontend knows what an operator of its own executes, also where it is repeated.
        like = None if isinstance(node, Concat) else program.operators.get(node.like)
        like = None if like is None or isinstance(node, Concat) else like - program.baked.get(node.like, 0)
        operators = known if known is not None else 1 if like is None else like
        if isinstance(node, Spatial) and node.free:
            operators = 0
        return Price(0, 0, operators, operators * size)
    found = _linear(program, node, size)
    return found if known is None else Price(found.macs, found.convolutions, known, known * size)


def _linear(program: Program, node: Linear, size: int) -> Price:
    macs = sum(term_macs(t.map, prod(program.values[t.source].shape), size) for t in node.terms)
    convolutions = sum(t.map.dense for t in node.terms)
    work = [_work(t.map) for t in node.terms]
    dense = any(t.map.dense for t in node.terms)
    scalars = [t for t in node.terms if t.map.kind == "scalar" and t.map.factor is not None]
    operators = sum(work) + len(node.terms) - 1
    lone = len(node.terms) == 1 and node.terms[0].map.kind in ("scalar", "diagonal")
    if len(scalars) == len(node.terms) and (len(scalars) > 1 or node.shift is None):
        operators += 1  # nothing is there for it to be the `alpha` of
    if node.shift is not None:
        maps = node.shift.mapped
        absorbed = dense and not maps
        merged = lone and not maps and node.terms[0].map.factor is None
        operators += 0 if absorbed or merged else 1
    pads = sum(prod(program.values[t.source].shape) for t in node.terms if t.map.dense and _needs_pad(t.map))
    return Price(macs, convolutions, operators, operators * size + pads)


def has_bias_map(node: Node) -> bool:
    """Whether its bias differs from position to position."""
    return isinstance(node, Linear) and node.mapped


def term_macs(m: Map, read: int, size: int) -> int:
    """``positions * rows * cols/groups * taps``, zero padding counted; of a transposed one, positions read.

    `read` and `size` are the elements before and after.
    """
    taps = prod(axis.kernel for axis in m.window)
    if m.kind == "conv":
        return size * m.cols // m.groups * taps
    if m.kind == "transposed":
        return read * m.rows // m.groups * taps
    return 0


def _work(m: Map) -> int:
    """Operators that one term executes, the addition to others not counted."""
    if m.kind in ("conv", "transposed"):
        return 2 if _needs_pad(m) else 1
    if m.kind == "pool":
        return 2 if _needs_pad(m) and any(axis.kernel > 1 for axis in m.window) else 1
    if m.kind == "diagonal" or (m.kind == "scalar" and m.factor is None):
        return 1
    if m.kind == "select":
        return 0 if is_slice(m.index or ()) else 1
    return 0


def is_slice(index: tuple[int, ...]) -> bool:
    """Whether the channels are evenly spaced, so that a view shows them."""
    step = index[1] - index[0] if len(index) > 1 else 1
    return step > 0 and index == tuple(range(index[0], index[-1] + 1, step))


def _uneven(axis: Axis) -> bool:
    return axis.lo != axis.hi or axis.lo < 0


def _needs_pad(m: Map) -> bool:
    """Whether torch has to pad or crop before: padding that differs between the sides, or is negative."""
    if m.kind == "transposed":
        return False
    if m.kind == "pool" and any(2 * axis.lo > axis.kernel for axis in m.window):
        return True
    return any(_uneven(axis) for axis in m.window)
