"""What a definition executes in ONNX Runtime: multiply-accumulates, convolutions, nodes, elements written."""

from __future__ import annotations

from math import prod

from convfold.graph.program import Linear, Node, Program, is_identity
from convfold.plan.onnx.forms import NEWEST, form_of, ungrouped
from convfold.plan.search.price import Price, Pricer, term_macs
from convfold.plan.search.price import price as _common

__all__ = ["PROHIBITIVE", "price", "pricer"]

# What cannot be written: no objective accepts it, whatever else it saves.
PROHIBITIVE = Price(2**62, 2**40, 2**40, 2**62, 1e12)


def price(program: Program, number: int, node: Node, original: bool) -> Price:
    """The price of `node` as the definition of value `number`, by the newest operator set and fixed sizes."""
    return _price(program, number, node, original, False, NEWEST)


def pricer(open: bool, opset: int = NEWEST) -> Pricer:
    """Prices for a file of this operator set; `open`: its spatial sizes are, so no bias map can be written."""

    def price_here(program: Program, number: int, node: Node, original: bool) -> Price:
        return _price(program, number, node, original, open, opset)

    return price_here


def _price(program: Program, number: int, node: Node, original: bool, open: bool, opset: int) -> Price:
    if not isinstance(node, Linear):
        return _common(program, number, node, original)
    value = program.values[number]
    size, rank = prod(value.shape), len(value.shape)
    known = program.operators.get(number) if original else None
    form = None if open and node.mapped else form_of(node, rank, opset)
    if form is None and not original:
        return PROHIBITIVE
    # A graph's output has a name of its own, which takes a node.
    operators = int(number in program.outputs) if is_identity(node) else 1 if form is None else form.operators
    operators = operators if known is None else known
    macs, before = 0, 0
    for term in node.terms:
        read = prod(program.values[term.source].shape)
        macs += term_macs(ungrouped(term.map, rank), read, size)
    for summand in () if form is None or known is not None else form.summands:
        # What is cropped, padded or turned before is written too.
        if len(summand.nodes) > 1 and summand.term.map.dense:
            before += prod(program.values[summand.term.source].shape)
    return Price(macs, sum(term.map.dense for term in node.terms), operators, operators * size + before)
