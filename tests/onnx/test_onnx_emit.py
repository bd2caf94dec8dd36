"""What is written beside the changed definitions: names, sizes, subgraphs, what stays and what goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from convfold.errors import NotFoldable
from convfold.geometry import Axis, point
from convfold.graph.maps import IDENTITY, Given, Map, after, seen, select
from convfold.graph.onnx.capture import capture
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.program import Concat, Elementwise, Linear, Opaque, Program, ShiftGiven, Spatial, Term, Value
from convfold.plan.onnx.emit import emit
from convfold.plan.onnx.price import pricer
from convfold.plan.search.search import search
from support.onnx_written import Bench, proto, run, session

FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def build(nodes, inputs, outputs, held, opset=17, ir_version=9, dtype=FLOAT, **rest) -> ir.Model:
    """A model of these nodes; inputs and outputs by name and shape, constants by name."""
    tensors = [numpy_helper.from_array(array, name) for name, array in held.items()]
    infos = [
        [helper.make_tensor_value_info(n, TensorProto.INT64 if n == "width" else dtype, s) for n, s in found.items()]
        for found in (inputs, outputs)
    ]
    if ir_version < 4:
        infos[0] += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "g", *infos, tensors, doc_string="what it is")
    imports = [helper.make_opsetid("", opset), *rest.pop("imports", [])]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version, **rest)
    onnx.checker.check_model(model)
    return ir.serde.deserialize_model(model)


def node(op, inputs, outputs, **attributes):
    """A node; an input that is left out is a dash."""
    return helper.make_node(op, inputs.replace("-", "").split(" "), outputs.split(), **attributes)


def folded(model: ir.Model) -> tuple[CapturedFile, ir.Model]:
    captured = capture(model)
    found = search(captured.program, pricer=pricer(captured.open, model.opset_imports[""]), alive=captured.alive)
    return captured, emit(captured, found.program)


def changed(captured: CapturedFile, **definitions) -> Program:
    """The program with other definitions, by the names of their values."""
    numbers = {name: number for number, name in captured.names.items()}
    nodes = {**captured.program.nodes, **{numbers[name]: found for name, found in definitions.items()}}
    return replace(captured.program, nodes=nodes)


def number(captured: CapturedFile, name: str) -> int:
    return next(number for number, found in captured.names.items() if found == name)


def equal(one: ir.Model, two: ir.Model, *feeds: dict[str, np.ndarray]) -> None:
    for fed in feeds:
        for a, b in zip(run(one, fed), run(two, fed), strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


def ops(model: ir.Model) -> Counter[str]:
    return Counter(found.op_type for found in model.graph)


def norm(name: str, source: str, out: str, held: dict[str, np.ndarray], channels: int):
    """A batch normalisation, some of its scales negative."""
    for part in "sbm":
        held[name + part] = normal(channels)
    held[name + "v"] = RNG.uniform(0.5, 2, channels).astype(np.float32)
    return node("BatchNormalization", f"{source} {name}s {name}b {name}m {name}v", out, name=name)


def conv_norm(out="y", width=4) -> tuple[list, dict[str, np.ndarray]]:
    held = {"w": normal(width, 3, 3, 3), "c": normal(width)}
    conv = node("Conv", "x w c", "h", pads=[1, 1, 1, 1], name="first")
    return [conv, norm("n", "h", out, held, width)], held


IMAGE = {"x": normal(2, 3, 6, 5)}


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
    equal(model, out, IMAGE, {"x": normal(1, 3, 9, 5)})


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
    equal(model, out, IMAGE)


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
    then = helper.make_graph([node("Mul", f"{read} inner", "y_bias"), node("Abs", "y_bias", "t")], "then", [], [shape])
    other = helper.make_tensor_value_info("e", FLOAT, None)
    orelse = helper.make_graph([node("Neg", read, "e")], "else", [], [other])
    branch = node("If", "q", "z", then_branch=then, else_branch=orelse)
    model = build(
        [*nodes, node("ReduceSum", "x", "total", keepdims=0), node("Greater", "total zero", "q"), branch],
        {"x": [2, 3, 6, 5]}, {"y": [2, 4, 6, 5], "z": [2, 4, 6, 5]}, held | {"zero": np.array(0, np.float32)},
    )  # fmt: skip
    _, out = folded(model)
    assert ops(out)["BatchNormalization"] == (0 if read == "y" else 1)
    assert "inner" in out.graph.initializers
    names = [v.name for v in ir.traversal.RecursiveGraphIterator(out.graph) for v in v.outputs]
    assert len({*names, *out.graph.initializers}) == len(names) + len(out.graph.initializers)
    equal(model, out, {"x": np.abs(IMAGE["x"])}, {"x": -np.abs(IMAGE["x"])})


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
    equal(model, out, feeds)
    rest = {"a": Linear((Term(select((0, 1), 6, 1), x),)), "c": Linear((Term(select((4, 5), 6, 1), x),))}
    out = emit(captured, changed(captured, b=part, **rest))
    assert ops(out) == {"Slice": 3, "Add": 1, "Mul": 1}
    equal(model, out, feeds)
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
    equal(model, out, *feeds)


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
    equal(model, out, IMAGE, {"x": normal(3, 3, 2, 7)})


def test_a_size_that_no_input_has_keeps_the_value_that_has_it() -> None:
    held = {"w1": normal(5, 3, 3, 3), "w2": normal(4, 5, 1, 1), "two": np.array([2]), "a": np.array([0, 4, -1])}
    nodes = [
        node("Conv", "x w1", "h"), node("Shape", "h", "size"), node("Gather", "size two", "high"),
        node("Conv", "h w2", "g"), node("Concat", "first four high rest", "to", axis=0), node("Reshape", "g to", "y"),
    ]  # fmt: skip
    held |= {"first": np.array([0]), "four": np.array([4]), "rest": np.array([-1])}
    model = build(nodes, {"x": ["n", 3, "a", "b"]}, {"y": [None] * 4}, held)
    captured, out = folded(model)
    assert captured.alive == {number(captured, "h")}
    equal(model, out, IMAGE, {"x": normal(3, 3, 4, 7)})


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
    equal(captured.model, out, *({"x": normal(*size)} for size in sizes))


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
    equal(captured.model, out, {"x": normal(1, 6, 4, 5)}, {"x": normal(3, 6, 2, 3)})


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
    equal(model, out, {"x": normal(2, 3)})


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
    equal(model, out, IMAGE)


def test_a_default_of_an_input_stays() -> None:
    nodes, held = conv_norm()
    model = build(nodes, {"x": [2, 3, 6, 5], "w": [4, 3, 3, 3]}, {"y": [2, 4, 6, 5]}, held)
    captured, out = folded(model)
    assert {"x", "w"} == {v.name for v in out.graph.inputs}
    equal(model, out, IMAGE, IMAGE | {"w": normal(4, 3, 3, 3)})
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
