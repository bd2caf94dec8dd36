"""Sizes that nodes read off what is not computed any more."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from convfold.graph.maps import after
from convfold.graph.onnx.capture import capture
from convfold.graph.program import Linear, Term
from convfold.plan.onnx.emit import emit
from support.onnx_files import IMAGE, assert_equal, build, changed, conv_norm, folded, node, norm, normal, number, ops


def chained(open_axes: bool = True) -> ir.Model:
    """Two 1x1 convolutions, the sizes of the first read for a Reshape behind the second."""
    held = {
        "w1": normal(5, 3, 1, 1), "w2": normal(4, 5, 1, 1), "zero": np.array(0), "one": np.array([1]),
        "rest": np.array([-1]), "first": np.array([0]), "four": np.array([4]), "high": np.array([2]),
    }  # fmt: skip
    nodes = [
        node("Conv", "x w1", "h"), node("Shape", "h", "size"), node("Gather", "size zero", "n"),
        node("Unsqueeze", "n first", "n1"), node("Gather", "size high", "high1"), node("Gather", "size one", "five"),
        node("Mul", "five four", "twenty"), node("Div", "twenty five", "width"),
        node("Conv", "h w2", "g"), node("Concat", "n1 width high1 rest", "to", axis=0), node("Reshape", "g to", "y"),
    ]  # fmt: skip
    inputs = ["n", 3, "high", "wide"] if open_axes else [2, 3, 6, 5]
    return build(nodes, {"x": inputs}, {"y": [None] * 4, "width": [1]}, held)


@pytest.mark.parametrize("open_axes", [True, False])
def test_sizes_of_what_is_folded_are_read_off_the_inputs(open_axes) -> None:
    model = chained(open_axes)
    captured, out = folded(model)
    assert captured.alive == frozenset()
    # The width is an output, a constant, and held by what still computes it no more.
    assert ops(out)["Conv"] == 1
    assert all(found.inputs[0].name == "x" for found in out.graph if found.op_type == "Shape")
    feeds = [IMAGE, {"x": normal(3, 3, 2, 7)}] if open_axes else [IMAGE]
    assert_equal(model, out, *feeds)


def test_a_size_that_is_an_output_and_scalars_and_other_types_are_read_off_the_inputs() -> None:
    held = {"w1": normal(5, 3, 1, 1), "w2": normal(4, 5, 1, 1), "zero": np.array(0)}
    nodes = [
        node("Conv", "x w1", "h"), node("Shape", "h", "size"), node("Gather", "size zero", "n"),
        node("Cast", "n", "count", to=TensorProto.INT32), node("Conv", "h w2", "y"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["n", 3, "a", "b"]}, {"y": ["n", 4, "a", "b"]}, held)
    for name, kind, shape in (("count", ir.DataType.INT32, []), ("size", ir.DataType.INT64, [4])):
        value = next(v for found in model.graph for v in found.outputs if v.name == name)
        value.type, value.shape = ir.TensorType(kind), ir.Shape(shape)
        model.graph.outputs.append(value)
    _, out = folded(model)
    assert ops(out)["Conv"] == 1
    assert [v.name for v in out.graph.outputs] == ["y", "count", "size"]
    assert_equal(model, out, IMAGE, {"x": normal(3, 3, 2, 7)})


def test_a_size_that_no_input_has_keeps_the_value_that_has_it() -> None:
    held = {"w1": normal(5, 3, 3, 3), "w2": normal(4, 3, 3, 3), "two": np.array([2]), "first": np.array([0])}
    nodes = [
        node("Conv", "x w1", "c"), norm("n", "c", "h", held, 5), node("Shape", "h", "size"),
        node("Gather", "size two", "high"), node("Conv", "x w2", "g"),
        node("Concat", "first four high rest", "to", axis=0), node("Reshape", "g to", "y"),
    ]  # fmt: skip
    held |= {"four": np.array([4]), "rest": np.array([-1])}
    model = build(nodes, {"x": ["n", 3, "a", "b"]}, {"y": [None] * 4}, held)
    captured = capture(model)
    assert captured.alive == {number(captured, "h")}
    conv, scale = (captured.program.nodes[number(captured, name)] for name in "ch")
    both = Term(after(conv.terms[0].map, scale.terms[0].map), conv.terms[0].source)
    out = emit(captured, changed(captured, h=Linear((both,), scale.shift, 1)))
    assert "BatchNormalization" not in ops(out)
    assert [f.inputs[0].name for f in out.graph if f.op_type == "Shape"] == ["h"]
    assert_equal(model, out, IMAGE, {"x": normal(3, 3, 4, 7)})


def test_a_size_that_two_nodes_read_is_written_once() -> None:
    held = {"w1": normal(6, 3, 1, 1), "w2": normal(4, 6, 1, 1), "zero": np.array([0]), "rest": np.array([-1])}
    nodes = [
        node("Conv", "x w1", "h"), node("Shape", "h", "size"), node("Gather", "size zero", "n"),
        node("Concat", "n rest", "to", axis=0), node("Conv", "h w2", "g"), node("Reshape", "g to", "y"),
        node("Relu", "g", "r"), node("Reshape", "r to", "z"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["n", 3, "a", "b"]}, {"y": [None] * 2, "z": [None] * 2}, held)
    _, out = folded(model)
    assert ops(out) == {"Conv": 1, "Relu": 1, "Reshape": 2, "Shape": 1, "Gather": 1, "Concat": 1}
    assert_equal(model, out, IMAGE, {"x": normal(3, 3, 2, 7)})


def test_a_size_of_what_is_still_computed_is_read_there() -> None:
    nodes, held = conv_norm("r")
    held |= {"zero": np.array([0]), "rest": np.array([-1])}
    nodes += [
        node("Relu", "r", "s"), node("Shape", "s", "size"), node("Gather", "size zero", "n"),
        node("Concat", "n rest", "to", axis=0), node("Reshape", "s to", "y"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["n", 3, "a", "b"]}, {"y": [None] * 2}, held)
    _, out = folded(model)
    assert [f.inputs[0].name for f in out.graph if f.op_type == "Shape"] == ["s"]
    assert ops(out)["Conv"] == 1
    assert_equal(model, out, IMAGE)


def test_a_size_of_another_type_is_cast() -> None:
    held = {"w1": normal(6, 3, 1, 1), "w2": normal(4, 6, 1, 1), "zero": np.array(0)}
    nodes = [
        node("Conv", "x w1", "h"), node("Shape", "h", "size"), node("Gather", "size zero", "n"),
        node("Cast", "n", "count", to=TensorProto.INT32), node("Conv", "h w2", "y"),
    ]  # fmt: skip
    model = build(nodes, {"x": ["n", 3, "a", "b"]}, {"y": [None] * 4}, held)
    value = next(v for found in model.graph for v in found.outputs if v.name == "count")
    value.type, value.shape = ir.TensorType(ir.DataType.INT32), ir.Shape([])
    model.graph.outputs.append(value)
    _, out = folded(model)
    assert ops(out) == {"Conv": 1, "Shape": 1, "Gather": 1, "Cast": 1}
    assert_equal(model, out, IMAGE, {"x": normal(3, 3, 2, 7)})


def test_a_size_that_a_node_reads_twice_is_written_once() -> None:
    body = [
        node("Add", "p q", "sum"), node("Cast", "sum", "real", to=TensorProto.FLOAT), node("Mul", "a real", "b"),
    ]  # fmt: skip
    function = helper.make_function("own", "Times", ["a", "p", "q"], ["b"], body, [helper.make_opsetid("", 17)])
    held = {"w1": normal(6, 3, 1, 1), "w2": normal(4, 6, 1, 1), "zero": np.array(0)}
    nodes = [
        node("Conv", "x w1", "h"), node("Shape", "h", "size"), node("Gather", "size zero", "n"),
        node("Conv", "h w2", "g"), node("Times", "g n n", "y", domain="own"),
    ]  # fmt: skip
    model = build(
        nodes, {"x": ["n", 3, "a", "b"]}, {"y": [None] * 4}, held,
        imports=[helper.make_opsetid("own", 1)], functions=[function],
    )  # fmt: skip
    _, out = folded(model)
    assert ops(out) == {"Conv": 1, "Times": 1, "Shape": 1, "Gather": 1}
    assert_equal(model, out, IMAGE)
