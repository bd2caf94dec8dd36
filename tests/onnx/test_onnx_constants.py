"""What counts as a constant of a file, and what is refused because something is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from support.onnx_graphs import Sketch, folded, operators
from support.onnx_meaning import captured_and_checked, kind_of

OPSETS = (9, 11, 13, 17, 20, 26)


def spread(s: Sketch, op: str, x: str, axes: list[int], since: int, **more: Any) -> str:
    """A node whose axes are an attribute before operator set `since`."""
    if s.opset < since:
        return s.op(op, x, axes=axes, **more)
    return s.op(op, x, s.integers(*axes), **more)


def test_constants_are_computed() -> None:
    """Weights by Constant, ConstantOfShape, Expand, Reshape, Transpose, Cast and sums of these."""
    s = Sketch(13)
    x = s.input("x", (2, 4, 6, 5))
    weight = s.op("Transpose", s.hold(s.normal(3, 3, 4, 6)), perm=[3, 2, 0, 1])
    bias = s.op("Reshape", s.hold(s.normal(1, 6, 1, 1)), s.integers(-1))
    shape = s.op("Constant", value=numpy_helper.from_array(np.array([6], np.int64)))
    filled = s.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([0.5], np.float32)))
    wide = s.op("Expand", s.op("Cast", s.hold(np.array([0.25])), to=TensorProto.FLOAT), shape)
    y = s.op("Conv", x, weight, s.op("Add", bias, s.op("Mul", filled, wide)))
    assert kind_of(captured_and_checked(s.model(y)), y) == "conv + shift"


def test_constants_are_read_as_their_operator_set_says() -> None:
    """Axes were attributes before operator set 13."""
    for opset in OPSETS:
        s = Sketch(opset)
        bias = spread(s, "Squeeze", s.hold(s.normal(1, 3, 1)), [0, 2], 13)
        again = spread(s, "Squeeze", spread(s, "Unsqueeze", bias, [0], 13), [0], 13)
        y = s.op("Conv", s.input("x", (1, 4, 3, 3)), s.hold(s.normal(3, 4, 1, 1)), again)
        assert kind_of(captured_and_checked(s.model(y)), y) == "conv + shift"


def refused(model: Any) -> list[str]:
    captured = captured_and_checked(model)
    return [refusal.reason for refusal in captured.refusals]


def test_an_initialiser_that_is_an_input_may_be_replaced() -> None:
    s = Sketch(13, ir_version=8)
    s.held["w"] = s.normal(3, 4, 1, 1)
    y = s.op("Conv", s.input("x", (1, 4, 3, 3)), s.input("w", (3, 4, 1, 1)))
    assert refused(s.model(y)) == ["its weight is not a proven constant"]


def test_of_old_files_every_initialiser_is_an_input(tmp_path: Path) -> None:
    s = Sketch(9, ir_version=3)
    y = s.norm(s.conv(s.input("x", (1, 4, 3, 3)), 4, 3, 1, 1, bias=True), 3)
    model = s.model(y)
    assert refused(model) == []
    after, _ = folded(model, tmp_path)
    assert operators(after) == {"Conv": 1}
    assert {value.name for value in after.graph.input} == {"x", *(t.name for t in after.graph.initializer)}


@pytest.mark.parametrize("place", ["weight", "bias"])
def test_what_is_computed_is_no_constant(place: str, tmp_path: Path) -> None:
    s = Sketch(13)
    x, b = s.input("x", (1, 4, 3, 3)), s.input("b", (3,))
    weight = s.hold(s.normal(3, 4, 1, 1))
    if place == "weight":
        weight, b = s.op("Mul", weight, s.op("Relu", s.op("ReduceMean", b))), s.hold(s.normal(3))
    y = s.norm(s.op("Conv", x, weight, b), 3)
    model = s.model(y)
    assert refused(model) == [f"its {place} is not a proven constant"]
    after, _ = folded(model, tmp_path)
    assert operators(after) == operators(model)


def test_weights_that_are_stored_in_few_bits_stay_so(tmp_path: Path) -> None:
    s = Sketch(13)
    x, scale = s.input("x", (1, 4, 3, 3)), s.hold(np.float32(0.1))
    few = s.hold(np.arange(12, dtype=np.int8).reshape(3, 4, 1, 1))
    y = s.norm(s.op("Conv", x, s.op("DequantizeLinear", few, scale)), 3)
    model = s.model(y)
    assert refused(model) == ["its weight is not a proven constant"]
    after, _ = folded(model, tmp_path)
    assert operators(after) == operators(model)


def test_a_padding_that_follows_the_size(tmp_path: Path) -> None:
    for mode, stride, reasons in (
        ("SAME_UPPER", 2, ["its padding follows the size of the input"]),
        ("SAME_UPPER", 1, []),
        ("SAME_LOWER", 1, []),
        ("VALID", 2, []),
    ):
        s = Sketch(13)
        x = s.input("x", ("n", 4, "high", "wide"))
        y = s.conv(x, 4, 3, 3, 3, auto_pad=mode, strides=[stride, stride])
        assert refused(s.model(y)) == reasons


def test_a_statistic_that_is_fed_is_no_constant() -> None:
    s = Sketch(13)
    x = s.input("x", (1, 3, 4, 4))
    parts = [s.hold(s.factor(3)), s.hold(s.normal(3)), s.input("mean", (3,)), s.hold(np.abs(s.factor(3)))]
    y = s.op("BatchNormalization", x, *parts)
    assert kind_of(captured_and_checked(s.model(y)), y) == "Opaque"


def test_an_if_reads_values_from_outside(tmp_path: Path) -> None:
    """What a branch reads stays, under its name; what leads there is folded."""
    s = Sketch(17)
    x, flag = s.input("x", (1, 4, 5, 5)), s.input("flag", (), np.bool_)
    inner = s.norm(s.conv(x, 4, 3, 3, 3), 3)
    kind = TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, None) for name in ("then", "else")]
    then = helper.make_graph([helper.make_node("Neg", [inner], ["then"])], "one", [], ends[:1])
    other = helper.make_graph([helper.make_node("Relu", [inner], ["else"])], "two", [], ends[1:])
    y = s.op("If", flag, then_branch=then, else_branch=other)
    after, _ = folded(s.model(y), tmp_path)
    assert operators(after) == {"Conv": 1, "If": 1}


def test_an_if_that_nothing_reads_goes(tmp_path: Path) -> None:
    """With it goes what only its branches read."""
    s = Sketch(17)
    x, flag = s.input("x", (1, 4, 5, 5)), s.input("flag", (), np.bool_)
    kept = s.norm(s.conv(x, 4, 3, 3, 3), 3)
    inner = s.norm(s.conv(x, 4, 3, 1, 1), 3)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("then", "else")]
    then = helper.make_graph([helper.make_node("Neg", [inner], ["then"])], "one", [], ends[:1])
    other = helper.make_graph([helper.make_node("Relu", [inner], ["else"])], "two", [], ends[1:])
    s.op("If", flag, then_branch=then, else_branch=other)
    after, _ = folded(s.model(kept), tmp_path)
    assert operators(after) == {"Conv": 1}
