"""Nodes that are repeated on other sources, with other widths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from convfold.errors import NotFoldable
from convfold.geometry import point
from convfold.graph.maps import Given, Map, after, seen, select
from convfold.graph.onnx.capture import capture
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.program import Concat, Elementwise, Linear, Program, Spatial, Term, Value
from convfold.plan.onnx.emit import emit
from support.onnx_files import assert_equal, build, changed, node, normal, number, ops
from support.onnx_written import Bench, run


def behind(given, shape_nodes=(), op="Reshape", held=(), **attributes) -> tuple[CapturedFile, Program]:
    """A change of layout before a convolution of one tap, and the program that has the convolution before it."""
    nodes = [*shape_nodes, node(op, f"x {given}", "h", **attributes), node("Conv", "h w", "y")]
    rank = 4 if op == "Resize" else 3
    constants = {"w": normal(2, 6, *(1,) * (rank - 2)), **dict(held)}
    sizes = [1, 6, 4, 5] if "sizes" in constants else ["n", 6, "a", "b"]
    model = build(nodes, {"x": sizes}, {"y": [None] * rank}, constants)
    captured = capture(model)
    x, h = (number(captured, name) for name in "xh")
    spatial = captured.program.nodes[h]
    assert isinstance(spatial, Spatial)
    values = list(captured.program.values)
    n, _, high, wide = values[x].shape
    values.append(Value((n, 2, high, wide)))
    front = Map("conv", 2, 6, 1, point(2), 1, Given("w2"))
    tensor = captured.tensor
    captured.tensor = lambda key, dtype=None: (
        tensor("w", dtype).reshape(2, 6, 1, 1) if key == "w2" else tensor(key, dtype)
    )
    program = changed(captured, y=replace(spatial, source=len(values) - 1))
    return captured, replace(
        program, values=values, nodes={**program.nodes, len(values) - 1: Linear((Term(front, x),))}
    )


SIZE = [
    node("Shape", "x", "size"), node("Gather", "size zero", "n"), node("Concat", "n six rest", "to", axis=0),
]  # fmt: skip
JOINED = [node("Identity", "six", "width"), node("Concat", "zero width rest", "to", axis=0)]


@pytest.mark.parametrize(
    ("given", "before", "op", "held", "attributes"),
    [
        ("to", (), "Reshape", {"to": np.array([0, 6, -1])}, {}),
        ("to", (), "Reshape", {"to": np.array([0, 0, -1])}, {}),
        ("to", SIZE, "Reshape", {"zero": np.array([0]), "six": np.array([6]), "rest": np.array([-1])}, {}),
        ("to", JOINED, "Reshape", {"zero": np.array([0]), "six": np.array([6]), "rest": np.array([-1])}, {}),
        ("- scales", (), "Resize", {"scales": np.array([1, 1, 2, 2], np.float32)}, {}),
        ("- - sizes", (), "Resize", {"sizes": np.array([1, 6, 9, 9])}, {}),
    ],
)
def test_a_change_of_layout_is_repeated_with_other_channels(given, before, op, held, attributes) -> None:
    captured, program = behind(given, before, op, held, **attributes)
    out = emit(captured, program)
    assert [f.op_type for f in out.graph if f.op_type in (op, "Conv")] == ["Conv", op]
    inner = next(f for f in out.graph if f.op_type == "Conv").outputs[0]
    assert inner.name == "x_folded"
    assert str(inner.shape) == ("[1,2,4,5]" if "sizes" in held else "[n,2,a,b]")
    sizes = [(1, 6, 4, 5)] if "sizes" in held else [(1, 6, 4, 5), (3, 6, 2, 3)]
    assert_equal(captured.model, out, *({"x": normal(*size)} for size in sizes))


def test_a_new_value_reads_sizes_of_what_is_folded_off_the_inputs_too() -> None:
    held = {"zero": np.array([0]), "six": np.array([6]), "rest": np.array([-1])}
    shape = [node("Shape", "h", "size"), *SIZE[1:]]
    nodes = [node("Conv", "x w1", "h"), *shape, node("Reshape", "h to", "r"), node("Conv", "r w2", "y")]
    constants = {"w1": normal(6, 6, 1, 1), "w2": normal(2, 6, 1), **held}
    captured = capture(build(nodes, {"x": ["n", 6, "a", "b"]}, {"y": [None] * 3}, constants))
    x, r, y = (number(captured, name) for name in ("x", "r", "y"))
    values = [*captured.program.values, captured.program.values[r]]
    ((first,), (second,)) = (captured.program.nodes[number(captured, name)].terms for name in ("h", "y"))
    both = after(seen(first.map, 1), second.map)
    turned = replace(captured.program.nodes[r], source=x)
    program = changed(captured, y=Linear((Term(both, len(values) - 1),)))
    out = emit(captured, replace(program, values=values, nodes={**program.nodes, len(values) - 1: turned}))
    assert ops(out)["Conv"] == 1
    assert [f.inputs[0].name for f in out.graph if f.op_type == "Shape"] == ["x"]
    assert y in captured.program.outputs
    assert_equal(captured.model, out, {"x": normal(1, 6, 4, 5)}, {"x": normal(3, 6, 2, 3)})


def test_a_width_that_is_not_known_is_refused() -> None:
    held = {"six": np.array([0, 6, -1]), "zero": np.array(0, np.int64)}
    captured, program = behind("to", [node("Identity", "six", "to")], "Reshape", held)
    captured.names[len(program.values)] = "to"  # what the network computes is not known
    with pytest.raises(NotFoldable, match="a shape that is not known"):
        emit(captured, program)
    held = {"zero": np.array([0]), "six": np.array([6]), "rest": np.array([-1])}
    captured, program = behind("to", SIZE, "Reshape", held)
    captured.example.clear()
    with pytest.raises(NotFoldable, match="a shape that no input has"):
        emit(captured, program)


def test_a_function_of_each_element_is_repeated_with_its_other_inputs() -> None:
    nodes = [node("Concat", "x x", "h", axis=1), node("Clip", "h low high", "y")]
    held = {"low": np.array(-0.5, np.float32), "high": np.array(0.25, np.float32)}
    model = build(nodes, {"x": [2, 3]}, {"y": [2, 6]}, held)
    captured = capture(model)
    x, y = number(captured, "x"), number(captured, "y")
    original = captured.program.nodes[y]
    assert isinstance(original, Elementwise)
    values = [*captured.program.values, Value((2, 3))]
    program = changed(captured, y=Concat((len(values) - 1,) * 2, 1))
    program = replace(program, values=values, nodes={**program.nodes, len(values) - 1: replace(original, source=x)})
    out = emit(captured, program)
    assert [f.op_type for f in out.graph] == ["Clip", "Concat"]
    assert out.graph[0].outputs[0].name == "y_moved"
    assert_equal(model, out, {"x": normal(2, 3)})


def repeated(
    op: str, given: str, held: dict[str, np.ndarray], opset: int, **attributes
) -> tuple[CapturedFile, Program]:
    """A node that changes shapes, and the program that has it on two of its six channels."""
    model = build([node(op, f"x {given}", "y", **attributes)], {"x": [1, 6, 4, 1]}, {"y": [None] * 4}, held, opset)
    captured = capture(model)
    x, y = number(captured, "x"), number(captured, "y")
    spatial = captured.program.nodes[y]
    assert isinstance(spatial, Spatial)
    values = list(captured.program.values)
    values += [replace(values[n], shape=(1, 2, *values[n].shape[2:])) for n in (x, y)]
    part, small = len(values) - 2, len(values) - 1
    nodes = {
        part: Linear((Term(select((1, 4), 6, 1), x),)),
        small: replace(spatial, source=part),
        y: Concat((small,) * 3, 1),
    }
    return captured, replace(captured.program, values=values, nodes={**captured.program.nodes, **nodes})


@pytest.mark.parametrize(
    ("op", "given", "held", "opset", "attributes"),
    [
        ("Expand", "to", {"to": np.array([6, 4, 5])}, 13, {}),
        ("Expand", "to", {"to": np.array([4, 5])}, 13, {}),
        ("Expand", "to", {"to": np.array([1, 1, 1, 5])}, 13, {}),
        ("Resize", "- - to", {"to": np.array([8, 3])}, 18, {"axes": [2, 3]}),
        ("Resize", "- - to", {"to": np.array([6, 8])}, 18, {"axes": [1, 2]}),
        ("Resize", "- - to", {"to": np.array([8, 6])}, 18, {"axes": [-2, -3]}),
    ],
)
def test_a_given_shape_has_its_width_where_the_node_says(op, given, held, opset, attributes) -> None:
    captured, program = repeated(op, given, held, opset, **attributes)
    out = emit(captured, program)
    feeds = {"x": normal(1, 6, 4, 1)}
    before = run(captured.model, feeds)[0]
    assert np.array_equal(run(out, feeds)[0], np.concatenate([before[:, [1, 4]]] * 3, axis=1))


def test_a_source_that_is_not_the_first_input_is_the_one_that_changes() -> None:
    bench = Bench([(2, 3), (2, 3)])
    captured = bench.captured((2, 3))
    captured.program.nodes[2] = Elementwise(1, "plus x0", 2)
    out = emit(captured, replace(captured.program, nodes={2: Elementwise(0, "plus x0", 2)}))
    assert [v.name for v in out.graph[0].inputs] == ["x0", "x0"]


def test_a_width_of_one_is_a_width() -> None:
    nodes = [node("Reshape", "x to", "h"), node("Neg", "h", "y")]
    model = build(nodes, {"x": [2, 1, 4, 5]}, {"y": [None] * 3}, {"to": np.array([2, 1, 20]), "w": normal(3, 1, 1, 1)})
    captured = capture(model)
    x, h, y = (number(captured, name) for name in "xhy")
    spatial = captured.program.nodes[h]
    values = [*captured.program.values, Value((2, 3, 4, 5)), Value((2, 3, 20))]
    wide, turned = len(values) - 2, len(values) - 1
    conv, back = Map("conv", 3, 1, 1, point(2), 1, Given("w")), Map("conv", 1, 3, 1, (), 1, Given("v"))
    tensor, matrix = captured.tensor, torch.randn(1, 3)
    captured.tensor = lambda key, dtype=None: matrix.to(dtype) if key == "v" else tensor(key, dtype)
    nodes = {
        wide: Linear((Term(conv, x),)),
        turned: replace(spatial, source=wide),
        y: Linear((Term(back, turned),)),
    }
    out = emit(captured, replace(captured.program, values=values, nodes={**captured.program.nodes, **nodes}))
    feeds = {"x": normal(2, 1, 4, 5)}
    factor = float(matrix.numpy()[0] @ tensor("w", None).numpy()[:, 0, 0, 0])
    assert np.allclose(run(out, feeds)[0], feeds["x"].reshape(2, 1, 20) * factor, atol=1e-5)
