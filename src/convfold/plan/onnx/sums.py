"""A sum of linear maps as nodes."""

from __future__ import annotations

import onnx_ir as ir

from convfold.errors import NotFoldable, Refusal
from convfold.graph.program import Linear, Shift
from convfold.plan.onnx.forms import Summand, form_of
from convfold.plan.onnx.kernels import dense
from convfold.plan.onnx.small import averaged, picked, scaled
from convfold.plan.onnx.target import Target
from convfold.plan.onnx.tensors import scale

__all__ = ["write_sum"]


def write_sum(at: Target, node: Linear) -> ir.Value:
    """``sum_j map_j(x_j) + shift`` with exactly the nodes that `form_of` names; where those are none, its source.

    Raises NotFoldable for a map that no node holds, and for a bias that differs from position to position in a
    file that leaves sizes open.
    """
    form = form_of(node, at.rank, at.writer.opset)
    if form is None or (node.mapped and at.writer.captured.open):
        reason = (
            "a map of it has no form in ONNX" if form is None else "its bias depends on sizes that the file leaves open"
        )
        raise NotFoldable(Refusal("region", reason, at.name))
    total = at.shift(node.shift, node.axis) if form.shift == "apart" and form.summands[0].minus else None
    left = form.shift == "apart" and total is None
    for summand in form.summands:
        inside = node.shift if form.shift == "inside" and summand is form.summands[0] else None
        new = _summand(at, summand, inside)
        total = new if total is None else at.node("Sub" if summand.minus else "Add", [total, new])
    assert total is not None
    return at.node("Add", [total, at.shift(node.shift, node.axis)]) if left else total


def _summand(at: Target, summand: Summand, shift: Shift | None) -> ir.Value:
    m, source = summand.term.map, at.source(summand.term.source)
    if summand.nodes == ("BatchNormalization",):
        return _normalised(at, summand, source, shift)
    if summand.nodes == ("Neg",):
        return at.node("Neg", [source])
    if not summand.nodes:
        return source
    if m.dense:
        return dense(at, m, source, summand.nodes, shift)
    if m.kind == "select":
        return picked(at, m, source, summand.nodes[0])
    if m.kind == "pool":
        return averaged(at, m, source, summand.nodes)
    return scaled(at, m, source)


def _normalised(at: Target, summand: Summand, source: ir.Value, shift: Shift | None) -> ir.Value:
    """``x*scale + shift`` on the channels: a batch normalisation of mean zero and variance one."""
    m = summand.term.map
    assert shift is not None
    factor = at.weight("scale", scale(m, 0), (m.rows,), (m, "scale"), m.recipe)
    mean, variance = (at.writer.filled(number, m.rows, at.dtype) for number in (0.0, 1.0))
    inputs = [source, factor, at.bias(shift, m.rows), mean, variance]
    return at.node("BatchNormalization", inputs, {"epsilon": 0.0})
