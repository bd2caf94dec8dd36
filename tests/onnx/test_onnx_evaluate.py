"""The float64 reference: types, control, what is asked for, and what has no reference."""

from __future__ import annotations

import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from convfold.errors import InvalidArgument
from convfold.graph.onnx import evaluate as module
from convfold.graph.onnx.evaluate import evaluate
from support.onnx_reference import RNG, check, feeds_of, normal, one_node
from support.onnx_seeds import SEEDS, control, external, functions, model, value

X = normal(2, 4, 6, 5)
F64 = np.float64


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed.__name__ not in ("runtime", "external", "signal")])
def test_whole_models_are_those_of_the_runtime(seed: Any) -> None:
    proto = seed()
    feeds = {}
    for info in proto.graph.input:
        shape = [dim.dim_value or 6 for dim in info.type.tensor_type.shape.dim]
        whole = info.type.tensor_type.elem_type == T.INT64
        feeds[info.name] = RNG.integers(0, 11, shape) if whole else normal(*shape)
    check(proto, feeds)


# Types


def _casts(*kinds: int) -> ir.Model:
    names = ["x", *(f"c{i}" for i in range(len(kinds)))]
    nodes = [helper.make_node("Cast", [names[i]], [names[i + 1]], to=kind) for i, kind in enumerate(kinds)]
    return ir.from_proto(model(nodes, [value("x", [2])], [value(names[-1], None)]))


def test_casts_keep_float64_or_round_as_asked() -> None:
    x = np.array([1 / 3, 1 + 2**-40])
    [kept] = evaluate(_casts(T.FLOAT), {"x": x}).values()
    np.testing.assert_array_equal(kept, x)
    [kept] = evaluate(_casts(T.DOUBLE, T.FLOAT), {"x": x}).values()
    np.testing.assert_array_equal(kept, x)
    [half] = evaluate(_casts(T.FLOAT16, T.FLOAT), {"x": x}).values()
    np.testing.assert_array_equal(half, x.astype(np.float16).astype(F64))
    [brain] = evaluate(_casts(T.BFLOAT16), {"x": x}).values()
    np.testing.assert_array_equal(brain, x.astype(ml_dtypes.bfloat16).astype(F64))
    [whole] = evaluate(_casts(T.INT64), {"x": np.array([-1.9, 2.9])}).values()
    assert whole.dtype == np.int64
    np.testing.assert_array_equal(whole, [-1, 2])
    [real] = evaluate(_casts(T.BOOL, T.FLOAT), {"x": np.array([0.0, 2.0])}).values()
    np.testing.assert_array_equal(real, [0.0, 1.0])


def test_constants_become_float64() -> None:
    filled = numpy_helper.from_array(np.array([0.1], np.float32))
    nodes = [
        helper.make_node("Constant", [], ["s"], value_ints=[2]),
        helper.make_node("ConstantOfShape", ["s"], ["a"], value=filled),
        helper.make_node("Constant", [], ["b"], value_float=0.1),
        helper.make_node("CastLike", ["s", "b"], ["c"]),
        helper.make_node("Add", ["a", "b"], ["d"]),
        helper.make_node("Add", ["d", "c"], ["y"]),
    ]
    found = evaluate(ir.from_proto(model(nodes, [], [value("y", None)])), {})["y"]
    np.testing.assert_array_equal(found, np.full(2, 2 * F64(np.float32(0.1)) + 2))


def test_weights_of_16_bits_and_weights_that_are_inputs_too() -> None:
    weights = {"w": np.array([1 / 3], np.float16), "k": np.array([2.0], np.float32)}
    nodes = [
        helper.make_node("Cast", ["w"], ["v"], to=T.FLOAT),
        helper.make_node("Mul", ["v", "k"], ["u"]),
        helper.make_node("Mul", ["u", "x"], ["y"]),
    ]
    proto = model(nodes, [value("x", [1]), value("k", [1])], [value("y", [1])], weights)
    third = F64(np.float16(1 / 3))
    assert evaluate(ir.from_proto(proto), {"x": np.float32([1.5])})["y"] == third * 2 * 1.5
    assert evaluate(ir.from_proto(proto), {"x": np.float32([1.5]), "k": np.float32([5])})["y"] == third * 5 * 1.5


# Control


def test_branches_and_loops() -> None:
    proto = control()
    for sign in (1.0, -1.0):
        check(proto, {"x": sign * np.abs(normal(1, 3, 4, 4))})


def test_a_loop_that_ends_itself_and_collects() -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["v", "i"], ["v2"]),
            helper.make_node("Less", ["v2", "ten"], ["go2"]),
            helper.make_node("Mul", ["v2", "ten"], ["scan"]),
        ],
        "body",
        [value("i", [], T.INT64), value("go", [], T.BOOL), value("v", [], T.INT64)],
        [value("go2", [], T.BOOL), value("v2", [], T.INT64), value("scan", [], T.INT64)],
    )
    nodes = [helper.make_node("Loop", ["", "yes", "x"], ["last", "all"], body=body)]
    outputs = [value("last", [], T.INT64), value("all", ["n"], T.INT64)]
    proto = model(nodes, [value("x", [], T.INT64)], outputs, {"yes": np.array(True), "ten": np.array(10)})
    found = check(proto, {"x": np.array(1)})
    assert found["all"].tolist() == [10, 20, 40, 70, 110]


def test_functions_take_the_attributes_of_their_call() -> None:
    x = normal(2, 3, 6, 6)
    proto = functions()
    first = check(proto, {"x": x})["y"]
    proto.graph.node[0].attribute[0].f = 0.9
    assert not np.allclose(check(proto, {"x": x})["y"], first)
    proto.functions[0].attribute[:] = []
    proto.functions[0].attribute_proto.append(helper.make_attribute("slope", 0.5))
    del proto.graph.node[1].attribute[:]
    check(proto, {"x": x})


# What is asked for


def test_wanted_tensors_and_no_other_nodes() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Neg", ["a"], ["b"]),
        helper.make_node("RandomNormal", [], ["r"], shape=[2]),
        helper.make_node("Add", ["b", "r"], ["y"]),
    ]
    found = ir.from_proto(model(nodes, [value("x", [2])], [value("y", [2])], {"w": np.array([1.5], np.float32)}))
    feeds = {"x": np.float32([-1, 2])}
    assert {name: a.tolist() for name, a in evaluate(found, feeds, ["b", "x", "w"]).items()} == {
        "b": [0.0, -2.0], "x": [-1.0, 2.0], "w": [1.5],
    }  # fmt: skip
    assert evaluate(found, {"a": np.float32([3, 4])}, ["b"])["b"].tolist() == [-3.0, -4.0]
    with pytest.raises(InvalidArgument, match=r"wanted: no tensor of the graph has this name: got 'q'"):
        evaluate(found, feeds, ["q"])


def test_a_given_result_of_a_node_that_runs_for_another() -> None:
    nodes = [helper.make_node("Split", ["x"], ["a", "b"], axis=0), helper.make_node("Add", ["a", "b"], ["y"])]
    found = ir.from_proto(model(nodes, [value("x", [4])], [value("y", [2])]))
    feeds = {"x": np.float32([1, 2, 3, 4]), "b": np.float32([10, 20])}
    assert evaluate(found, feeds)["y"].tolist() == [11.0, 22.0]


def test_weights_and_values_are_freed_after_their_last_reader() -> None:
    size, count = 300, 24
    weights = {f"w{i}": np.eye(size, dtype=np.float32) for i in range(count)}
    names = ["x", *(f"v{i}" for i in range(2 * count))]
    nodes = []
    for i in range(count):
        nodes.append(helper.make_node("Add", [names[2 * i], f"w{i}"], [names[2 * i + 1]]))
        nodes.append(helper.make_node("Mul", [names[2 * i + 1], f"w{i}"], [names[2 * i + 2]]))
    found = ir.from_proto(model(nodes, [value("x", [size, size])], [value(names[-1], None)], weights))
    one = size * size * 8
    x = normal(size, size)
    tracemalloc.start()
    evaluate(found, {"x": x})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * one, f"{peak / one:.1f} arrays at once"


def test_external_weights_are_read(tmp_path: Any) -> None:
    from convfold.graph.onnx.read import read
    from support.onnx_seeds import external_data, head

    (tmp_path / "w.bin").write_bytes(external_data())
    (tmp_path / "model.onnx").write_bytes(external().SerializeToString())
    x = normal(2, 4, 6, 6)
    found = evaluate(read(tmp_path / "model.onnx"), {"x": x})["y"]
    np.testing.assert_array_equal(found, evaluate(ir.from_proto(head()), {"x": x})["y"])


# What has no reference


def test_inputs_that_are_missing_or_unknown() -> None:
    found = ir.from_proto(one_node("Relu", 13, [X], {}))
    assert evaluate(found, {}, []) == {}
    with pytest.raises(InvalidArgument, match=r"feeds: an input of the model is not given: expected \['i0'\]"):
        evaluate(found, {})
    with pytest.raises(InvalidArgument, match=r"feeds: no tensor of the graph has this name: got 'z'"):
        evaluate(found, {"i0": X, "z": X})


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "expected"),
    [
        ("RandomNormalLike", [X], {}, "o0: the operator has no float64 reference: got RandomNormalLike"),
        ("Bernoulli", [np.abs(X)], {}, "has no float64 reference: got Bernoulli"),
        ("DynamicQuantizeLinear", [X], {}, "has no float64 reference: got DynamicQuantizeLinear"),
        ("Dropout", [X, np.array(0.5, np.float32), np.array(True)], {}, "(it is random): got Dropout"),
        ("MatMul", [X, X], {}, "has no float64 reference ("),
        ("Gelu", [X], {"domain": "com.microsoft"}, "has no float64 reference: got com.microsoft::Gelu"),
    ],
)
def test_operators_without_a_reference(op: str, inputs: list[Any], attributes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        evaluate(ir.from_proto(one_node(op, 20, inputs, attributes)), feeds_of(inputs))
    assert expected in str(raised.value)


def test_loops_without_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go2"]), helper.make_node("Identity", ["i"], ["scan"])],
        "body",
        [value("i", [], T.INT64), value("go", [], T.BOOL)],
        [value("go2", [], T.BOOL), value("scan", [], T.INT64)],
    )
    loop = helper.make_node("Loop", ["x", ""], ["y"], body=body)
    found = ir.from_proto(model([loop], [value("x", [], T.INT64)], [value("y", ["n"], T.INT64)]))
    assert evaluate(found, {"x": np.array(4)})["y"].tolist() == [0, 1, 2, 3]
    with pytest.raises(InvalidArgument, match="no step was run"):
        evaluate(found, {"x": np.array(0)})
    monkeypatch.setattr(module, "STEPS", 3)
    with pytest.raises(InvalidArgument, match="more than 3 steps"):
        evaluate(found, {"x": np.array(4)})


def test_a_tensor_that_nothing_computes() -> None:
    found = ir.from_proto(one_node("Relu", 13, [X], {}))
    node = found.graph.node(0)
    node.replace_input_with(0, ir.Value(name="nowhere"))
    with pytest.raises(InvalidArgument, match="nowhere: nothing computes this tensor"):
        evaluate(found, {"i0": X})
