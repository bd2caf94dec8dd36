"""What is written beside the changed definitions: names, sizes, subgraphs, what stays and what goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper

from convfold.errors import NotFoldable
from convfold.geometry import Axis
from convfold.graph.maps import IDENTITY, Given, Map, select
from convfold.graph.onnx.capture import capture
from convfold.graph.program import Linear, Opaque, ShiftGiven, Term, Value
from convfold.plan.onnx.emit import emit
from convfold.plan.onnx.price import pricer
from convfold.plan.search.search import search
from support.onnx_files import FLOAT, IMAGE, assert_equal, build, changed, conv_norm, folded, node, normal, number, ops
from support.onnx_written import Bench, proto, run, session


def test_a_model_keeps_what_is_said_about_it() -> None:
    nodes, held = conv_norm("r")
    nodes += [node("Relu", "r", "s", name="act"), node("Twice", "s", "y", domain="own")]
    held["idle"] = normal(3)
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [node("Add", "a a", "b")], [helper.make_opsetid("", 17)]
    )
    model = build(
        nodes, {"x": ["n", 3, "high", 5]}, {"y": ["n", 4, "high", 5]}, held,
        imports=[helper.make_opsetid("own", 3)], functions=[function], producer_name="someone", doc_string="whole",
    )  # fmt: skip
    model.metadata_props["key"] = "value"
    model.graph.inputs[0].doc_string = "an image"
    model.graph.metadata_props["inner"] = "too"
    before = ir.serde.serialize_model(model).SerializeToString()
    _, out = folded(model)
    assert ir.serde.serialize_model(model).SerializeToString() == before
    found, origin = proto(out), ir.serde.serialize_model(model)
    assert ops(out) == {"Conv": 1, "Relu": 1, "Twice": 1}
    for field in ("opset_import", "functions", "metadata_props", "producer_name", "doc_string", "ir_version"):
        assert getattr(found, field) == getattr(origin, field)
    for field in ("input", "output", "name", "doc_string", "metadata_props"):
        assert getattr(found.graph, field) == getattr(origin.graph, field)
    assert {t.name for t in found.graph.initializer} == {"r_weight", "r_bias", "idle"}
    assert_equal(model, out, IMAGE, {"x": normal(1, 3, 9, 5)})


def test_tensors_are_shared_and_weights_are_computed_when_they_are_written() -> None:
    nodes, held = conv_norm("r")
    held["far"] = normal(2, 4, 1, 1)
    model = build(
        [*nodes, node("Relu", "r", "s"), node("Conv", "s far", "y")], {"x": [2, 3, 6, 5]}, {"y": [2, 2, 6, 5]}, held
    )
    captured = capture(model)
    asked: list[object] = []
    tensor = captured.tensor

    def counted(key, dtype=None):
        asked.append(key)
        return tensor(key, dtype)

    captured.tensor = counted
    found = search(captured.program, pricer=pricer(False))
    out = emit(captured, found.program)
    assert out.graph.initializers["far"].const_value is model.graph.initializers["far"].const_value
    weight = out.graph.initializers["r_weight"].const_value
    assert isinstance(weight, ir.LazyTensor)
    assert asked == []
    weight.numpy()
    once = list(asked)
    assert "w" in once
    weight.numpy()
    assert asked == once * 2
    assert_equal(model, out, IMAGE)


def test_a_folded_value_keeps_its_name_and_what_is_known_of_it() -> None:
    nodes, held = conv_norm("r")
    model = build([*nodes, node("Relu", "r", "y")], {"x": ["n", 3, "h", 5]}, {"y": ["n", 4, "h", 5]}, held)
    _, out = folded(model)
    conv = out.graph[0]
    assert conv.outputs[0].name == "r"
    assert str(conv.outputs[0].shape) == "[n,4,h,5]"
    assert conv.outputs[0].dtype == ir.DataType.FLOAT


@pytest.mark.parametrize("read", ["y", "h"])
def test_a_graph_inside_a_node_goes_on_reading_what_is_outside(read) -> None:
    nodes, held = conv_norm()
    held |= {"flag": np.array(True), "inner": normal(4, 1, 1), "y_weight": normal(1)}
    shape = helper.make_tensor_value_info("t", FLOAT, None)
    steps = [node("Mul", f"{read} inner", "y_bias"), node("Add", "y_bias lone", "t")]
    then = helper.make_graph(steps, "then", [], [shape])
    other = helper.make_tensor_value_info("e", FLOAT, None)
    orelse = helper.make_graph([node("Neg", read, "e")], "else", [], [other])
    branch = node("If", "q", "z", then_branch=then, else_branch=orelse)
    model = build(
        [
            *nodes, node("ReduceSum", "x", "total", keepdims=0), node("Greater", "total zero", "q"),
            node("ReduceMean", "x", "lone"), branch,
        ],
        {"x": [2, 3, 6, 5]}, {"y": [2, 4, 6, 5], "z": [2, 4, 6, 5]}, held | {"zero": np.array(0, np.float32)},
    )  # fmt: skip
    _, out = folded(model)
    assert ops(out)["BatchNormalization"] == (0 if read == "y" else 1)
    assert "inner" in out.graph.initializers
    names = [v.name for v in ir.traversal.RecursiveGraphIterator(out.graph) for v in v.outputs]
    assert len({*names, *out.graph.initializers}) == len(names) + len(out.graph.initializers)
    assert_equal(model, out, {"x": np.abs(IMAGE["x"])}, {"x": -np.abs(IMAGE["x"])})


def test_an_output_that_is_another_value_has_a_node_of_its_own() -> None:
    model = build(
        [node("Relu", "x", "h"), node("Abs", "h", "y"), node("Neg", "h", "z")], {"x": [3]}, {"y": [3], "z": [3]}, {}
    )
    captured = capture(model)
    h = number(captured, "h")
    same = Linear((Term(IDENTITY, h),))
    out = emit(captured, changed(captured, y=same, z=Linear((Term(IDENTITY, number(captured, "y")),))))
    assert ops(out) == {"Relu": 1, "Identity": 2}
    (y, z) = run(out, {"x": np.array([-1, 0, 2], np.float32)})
    assert y.tolist() == z.tolist() == [0, 0, 2]


def test_a_value_that_is_another_is_read_in_its_place() -> None:
    model = build([node("Relu", "x", "h"), node("Abs", "h", "a"), node("Neg", "a", "y")], {"x": [3]}, {"y": [3]}, {})
    captured = capture(model)
    out = emit(captured, changed(captured, a=Linear((Term(IDENTITY, number(captured, "h")),))))
    assert ops(out) == {"Relu": 1, "Neg": 1}
    assert run(out, {"x": np.array([-1, 0, 2], np.float32)})[0].tolist() == [0, 0, -2]


def test_parts_of_a_split_stay_while_one_is_needed() -> None:
    split = node("Split", "x", "a b c", axis=1)
    model = build(
        [split, node("Add", "a b", "d"), node("Mul", "d c", "y")], {"x": [2, 6, 4]}, {"y": [2, 2, 4]}, {}, opset=11
    )
    captured = capture(model)
    x = number(captured, "x")
    part = Linear((Term(select((2, 3), 6, 1), x),))
    out = emit(captured, changed(captured, b=part))
    assert ops(out) == {"Split": 1, "Slice": 1, "Add": 1, "Mul": 1}
    names = [v.name for found in out.graph for v in found.outputs]
    assert len(set(names)) == len(names)
    assert next(f for f in out.graph if f.op_type == "Slice").outputs[0].name == "b"
    feeds = {"x": normal(2, 6, 4)}
    assert_equal(model, out, feeds)
    rest = {"a": Linear((Term(select((0, 1), 6, 1), x),)), "c": Linear((Term(select((4, 5), 6, 1), x),))}
    out = emit(captured, changed(captured, b=part, **rest))
    assert ops(out) == {"Slice": 3, "Add": 1, "Mul": 1}
    assert_equal(model, out, feeds)
    # A part that nothing reads keeps its name.
    out = emit(captured, changed(captured, y=Linear((Term(IDENTITY, number(captured, "d")),))))
    assert ops(out) == {"Split": 1, "Add": 1, "Identity": 1}
    assert [v.name for v in out.graph[0].outputs] == ["a", "b", "c"]
    proto(out)


def test_a_node_of_several_results_stays_while_one_is_read() -> None:
    nodes = [node("TopK", "x k", "top where"), node("Relu", "top", "h"), node("Abs", "h", "y")]
    model = build([*nodes, node("Neg", "x", "z")], {"x": [5]}, {"y": [2], "z": [5]}, {"k": np.array([2])})
    captured = capture(model)
    out = emit(captured, changed(captured, z=Linear((Term(Map("scalar", factor=3.0), number(captured, "x")),))))
    assert ops(out) == {"TopK": 1, "Relu": 1, "Abs": 1, "Mul": 1}
    y, z = run(out, {"x": np.array([1, -5, 3, 2, 0], np.float32)})
    assert y.tolist() == [3, 2]
    assert z.tolist() == [3, -15, 9, 6, 0]


@pytest.mark.parametrize("ir_version", [3, 4, 8])
def test_old_files_have_their_constants_among_the_inputs(ir_version) -> None:
    nodes, held = conv_norm()
    model = build(nodes, {"x": [2, 3, 6, 5]}, {"y": [2, 4, 6, 5]}, held, 8, ir_version)
    _, out = folded(model)
    assert ops(out) == {"Conv": 1}
    names = [v.name for v in out.graph.inputs]
    assert names == (["x", "y_weight", "y_bias"] if ir_version == 3 else ["x"])
    assert set(out.graph.initializers) == {"y_weight", "y_bias"}
    assert [i.name for i in session(proto(out)).get_inputs()] == ["x"]
    assert_equal(model, out, IMAGE)


def test_a_default_of_an_input_stays() -> None:
    nodes, held = conv_norm()
    model = build(nodes, {"x": [2, 3, 6, 5], "w": [4, 3, 3, 3]}, {"y": [2, 4, 6, 5]}, held)
    captured, out = folded(model)
    assert {"x", "w"} == {v.name for v in out.graph.inputs}
    assert_equal(model, out, IMAGE, IMAGE | {"w": normal(4, 3, 3, 3)})
    # Also where nothing reads it any more.
    relu = Linear((Term(IDENTITY, number(captured, "x")),))
    lone = build([node("Add", "x w", "h"), node("Relu", "h", "y")], {"x": [3], "w": [3]}, {"y": [3]}, {"w": normal(3)})
    captured = capture(lone)
    out = emit(captured, changed(captured, h=replace(relu, terms=(Term(IDENTITY, number(captured, "x")),))))
    assert [v.name for v in out.graph.inputs] == ["x", "w"]
    assert "w" in out.graph.initializers


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_have_the_type_of_their_value(dtype) -> None:
    bench = Bench([(2, 6, 4)])
    captured = bench.captured((2, 6, 4))
    kind = ir.tensor_adapters.from_torch_dtype(dtype)
    captured.program.values[:] = [Value(v.shape, str(dtype).removeprefix("torch.")) for v in captured.program.values]
    key, scale = bench.tensor(6)
    shift, bias = bench.shift(6)
    scaled = Linear((Term(Map("diagonal", 6, 6, 1, recipe=Given(key)), 0),), shift, 1)
    out = emit(captured, replace(captured.program, nodes={1: scaled}))
    assert {v.const_value.dtype for v in out.graph.initializers.values()} == {kind}
    held = {name: ir.serde.serialize_tensor(v.const_value) for name, v in out.graph.initializers.items()}
    for name, expected in (("y_scale", scale), ("y_bias", bias), ("zeros_6", 0 * bias), ("ones_6", 0 * bias + 1)):
        assert torch.equal(
            torch.tensor(numpy_helper.to_array(held[name]).astype(np.float64)), expected.to(dtype).double()
        )


def test_integers_are_not_folded() -> None:
    captured = Bench([(2, 6)]).captured((2, 6))
    captured.program.values[1] = Value((2, 6), "int64")
    with pytest.raises(NotFoldable, match="its values are int64"):
        emit(captured, replace(captured.program, nodes={1: Linear((Term(Map("scalar", factor=2.0), 0),))}))


def test_operator_sets_without_broadcasting_are_refused() -> None:
    captured = Bench([(2, 6)], 6).captured((2, 6))
    with pytest.raises(NotFoldable, match="operator set 7 or newer, the file has 6"):
        emit(captured, captured.program)


def test_an_unknown_operator_is_not_moved() -> None:
    captured = Bench([(2, 6)]).captured((2, 6))
    with pytest.raises(NotFoldable, match="an operator that is not known"):
        emit(captured, replace(captured.program, nodes={1: Opaque((0,))}))


def test_definitions_that_need_each_other_are_refused() -> None:
    model = build([node("Add", "x x", "m"), node("Add", "m x", "y")], {"x": [3]}, {"y": [3], "m": [3]}, {})
    captured = capture(model)
    y = number(captured, "y")
    # What is kept of y reads m, whatever the program says.
    three = Linear((Term(Map("scalar", factor=3.0), number(captured, "x")),))
    captured.program.nodes[y] = three
    with pytest.raises(NotFoldable, match="need each other"):
        emit(captured, changed(captured, m=Linear((Term(Map("scalar", factor=2 / 3), y),))))


def test_constants_of_the_file_are_used_as_they_lie_there() -> None:
    bench = Bench([(3, 6)])
    bench.stored = {"matrix": torch.randn(6, 4, dtype=torch.float64), "row": torch.randn(1, 4, dtype=torch.float64)}
    m = Map("conv", 4, 6, 1, (), 1, Given(("transposed", "matrix")))
    captured = bench.captured((3, 4))
    product = Linear((Term(m, 0),), ShiftGiven(("flat", "row")), 1)
    out = emit(captured, replace(captured.program, nodes={1: product}))
    assert ops(out) == {"Gemm": 1}
    assert set(out.graph.initializers) == {"matrix", "row", "y_bias"}
    y = bench.x[0] @ bench.stored["matrix"] + bench.stored["row"]
    assert np.allclose(run(out, {"x0": bench.x[0].float().numpy()})[0], y.numpy(), atol=1e-5)
    out = emit(captured, replace(captured.program, nodes={1: Linear((Term(m, 0), Term(m, 0)))}))
    assert set(out.graph.initializers) == {"matrix", "row"}


def test_what_one_map_gives_is_written_once() -> None:
    bench = Bench([(2, 6, 4, 4), (2, 6, 4, 4)])
    term, weight = bench.conv((Axis(3), Axis(3)), 4)
    captured = bench.captured((2, 4, 2, 2))
    out = emit(captured, replace(captured.program, nodes={2: Linear((term, Term(term.map, 1)))}))
    assert ops(out) == {"Conv": 2, "Add": 1}
    assert len(out.graph.initializers) == 1
    y = torch.conv2d(bench.x[0] + bench.x[1], weight)
    found = run(out, {f"x{n}": x.float().numpy() for n, x in enumerate(bench.x)})[0]
    assert np.allclose(found, y.numpy(), atol=1e-4)


def test_a_folded_value_keeps_its_description() -> None:
    nodes, held = conv_norm("r")
    model = build([*nodes, node("Relu", "r", "y")], {"x": [2, 3, 6, 5]}, {"y": [2, 4, 6, 5]}, held)
    value = next(v for found in model.graph for v in found.outputs if v.name == "r")
    value.metadata_props["from"] = "a layer"
    value.doc_string = "normalised"
    _, out = folded(model)
    assert out.graph[0].outputs[0].metadata_props == {"from": "a layer"}
    assert out.graph[0].outputs[0].doc_string == "normalised"


def test_a_shift_of_the_file_is_used_as_it_lies_there() -> None:
    bench = Bench([(3, 6, 4)])
    bench.stored = {"row": torch.randn(1, 6, 1, dtype=torch.float64)}
    captured = bench.captured((3, 6, 4))
    shifted = Linear((Term(IDENTITY, 0),), ShiftGiven(("flat", "row")), 1)
    out = emit(captured, replace(captured.program, nodes={1: shifted}))
    assert ops(out) == {"Add": 1}
    assert set(out.graph.initializers) == {"row"}
