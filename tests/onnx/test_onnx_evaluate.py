"""The float64 reference against ONNX Runtime in float32, and against numpy in float64."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from convfold.errors import InvalidArgument
from convfold.graph.onnx import evaluate as module
from convfold.graph.onnx.evaluate import evaluate
from convfold.verify.onnx import run_file
from support.onnx_seeds import SEEDS, control, external, functions, model, value

RNG = np.random.default_rng(7)


def _normal(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RNG.standard_normal(shape).astype(np.float32)


def _one(op: str, opset: int, inputs: list[Any], attributes: dict[str, Any], outputs: int = 1) -> onnx.ModelProto:
    """A model of one node, whose inputs are the model's."""
    names = [f"i{i}" if array is not None else "" for i, array in enumerate(inputs)]
    results = [f"o{i}" for i in range(outputs)]
    given = [
        value(name, list(array.shape), helper.np_dtype_to_tensor_dtype(array.dtype))
        for name, array in zip(names, inputs, strict=True)
        if array is not None
    ]
    node = helper.make_node(op, names, results, **attributes)
    return model([node], given, [value(name, None, T.UNDEFINED) for name in results], opset=opset)


def _check(proto: onnx.ModelProto, feeds: dict[str, Any], tolerance: float = 1e-5) -> dict[str, Any]:
    """Hold `evaluate` to ONNX Runtime; returns what it gave."""
    for output in proto.graph.output:  # ONNX Runtime infers what is not said
        if not output.type.tensor_type.elem_type:
            output.ClearField("type")
    expected = run_file(proto.SerializeToString(), feeds)
    found = evaluate(ir.from_proto(proto), feeds)
    assert list(found) == list(expected)
    for name, wanted in expected.items():
        assert found[name].shape == wanted.shape
        if wanted.dtype.kind != "f":
            np.testing.assert_array_equal(found[name], wanted)
            continue
        assert found[name].dtype == np.float64
        scale = np.abs(wanted[np.isfinite(wanted)]).max() if np.isfinite(wanted).any() else 1.0
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=tolerance * max(scale, 1e-30))
    return found


def _feeds(inputs: list[Any]) -> dict[str, Any]:
    return {f"i{i}": array for i, array in enumerate(inputs) if array is not None}


X = _normal(2, 4, 6, 5)
F64 = np.float64
# Operator, opset, inputs, attributes: where opsets differ in what they mean, both sides of it.
CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("Add", 13, [X, _normal(5)], {}),
    ("Sub", 13, [X, _normal(4, 1, 1)], {}),
    ("Mul", 13, [X, _normal(1)], {}),
    ("Div", 13, [X, np.abs(_normal(5)) + 1], {}),
    ("Div", 13, [np.array([-7, 7]), np.array([2, -2])], {}),
    ("Sum", 13, [X, X[:1], _normal(5)], {}),
    ("Max", 13, [X, _normal(5), _normal(6, 1)], {}),
    ("Min", 13, [X, _normal(5)], {}),
    ("Pow", 13, [np.abs(X), np.array(2.5, np.float32)], {}),
    ("MatMul", 13, [X, _normal(5, 3)], {}),
    ("MatMul", 13, [_normal(4, 3), _normal(3)], {}),
    ("Gemm", 13, [_normal(5, 3), _normal(4, 5), _normal(4)], {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}),
    ("Gemm", 13, [_normal(3, 5), _normal(5, 4)], {}),
    ("BatchNormalization", 9, [X, _normal(4), _normal(4), _normal(4), np.abs(_normal(4))], {"epsilon": 0.01}),
    ("BatchNormalization", 15, [X, _normal(4), _normal(4), _normal(4), np.abs(_normal(4))], {}),
    ("BatchNormalization", 15, [_normal(3, 4), *[np.abs(_normal(4)) for _ in range(4)]], {}),
    ("InstanceNormalization", 6 + 1, [X, _normal(4), _normal(4)], {"epsilon": 0.1}),
    ("LayerNormalization", 17, [X, _normal(6, 5), _normal(6, 5)], {"axis": 2}),
    ("LayerNormalization", 17, [X, _normal(5)], {}),
    ("GroupNormalization", 21, [X, _normal(4), _normal(4)], {"num_groups": 2}),
    ("RMSNormalization", 23, [X, _normal(5)], {}),
    ("Softmax", 11, [X], {}),
    ("Softmax", 11, [X], {"axis": 2}),
    ("Softmax", 13, [X], {}),
    ("Softmax", 13, [X], {"axis": 1}),
    ("LogSoftmax", 11, [X], {"axis": -1}),
    ("LogSoftmax", 13, [X], {"axis": 1}),
    ("Relu", 14, [X], {}),
    ("Sigmoid", 13, [X], {}),
    ("Tanh", 13, [X], {}),
    ("Exp", 13, [X], {}),
    ("Erf", 13, [X], {}),
    ("Sqrt", 13, [np.abs(X)], {}),
    ("Softplus", 1, [30 * X], {}),
    ("LeakyRelu", 16, [X], {"alpha": 0.2}),
    ("LeakyRelu", 16, [X], {}),
    ("Elu", 6, [X], {"alpha": 0.5}),
    ("HardSigmoid", 6, [4 * X], {}),
    ("HardSigmoid", 6, [4 * X], {"alpha": 0.3, "beta": 0.1}),
    ("HardSwish", 14, [4 * X], {}),
    ("Mish", 18, [X], {}),
    ("Gelu", 20, [X], {}),
    ("Gelu", 20, [X], {"approximate": "tanh"}),
    ("PRelu", 16, [X, _normal(4, 1, 1)], {}),
    ("Clip", 7, [X], {"min": -0.5, "max": 0.25}),
    ("Clip", 13, [X, None, np.array(0.25, np.float32)], {}),
    ("Clip", 13, [X, np.array(-0.25, np.float32)], {}),
    ("GlobalAveragePool", 1, [X], {}),
    ("GlobalMaxPool", 1, [X], {}),
    ("LRN", 13, [X], {"size": 3}),
    ("LpNormalization", 1, [X], {"axis": 1}),
    ("ReduceMean", 13, [X], {"axes": [2, 3]}),
    ("ReduceMean", 18, [X, np.array([1, -1])], {"keepdims": 0}),
    ("ReduceL2", 18, [X, np.array([1])], {}),
    ("ReduceLogSumExp", 18, [X, np.array([1])], {}),
    ("Pad", 9, [X], {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 0.5}),
    ("Pad", 13, [X, np.array([0, 0, 1, 2, 0, 0, 3, 1])], {"mode": "reflect"}),
    ("Slice", 9, [X], {"starts": [1, 0], "ends": [3, 4], "axes": [1, 2]}),
    ("Slice", 13, [X, np.array([5]), np.array([-99]), np.array([2]), np.array([-2])], {}),
    ("Squeeze", 11, [X[:1]], {"axes": [0]}),
    ("Unsqueeze", 13, [X, np.array([1, -1])], {}),
    ("Reshape", 14, [X, np.array([0, -1, 5])], {}),
    ("Transpose", 13, [X], {"perm": [0, 2, 3, 1]}),
    ("Flatten", 13, [X], {"axis": 2}),
    ("Concat", 13, [X, X], {"axis": -2}),
    ("Gather", 13, [X, np.array([[3, -1], [0, 0]])], {"axis": 1}),
    ("Expand", 13, [_normal(4, 1, 1), np.array([2, 1, 3, 1])], {}),
    ("Tile", 13, [X, np.array([1, 2, 1, 3])], {}),
    ("Where", 16, [X > 0, X, 2 * X], {}),
    ("DepthToSpace", 13, [X], {"blocksize": 2, "mode": "CRD"}),
    ("Upsample", 9, [X, np.array([1, 1, 2, 3], np.float32)], {"mode": "nearest"}),
    ("Upsample", 9, [X, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("Upsample", 7, [X], {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]}),
    ("Resize", 10, [X, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("Resize", 13, [X, None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("Resize", 13, [X, None, None, np.array([2, 4, 9, 9])], {"mode": "cubic"}),
    ("GridSample", 16, [X, np.tanh(_normal(2, 3, 4, 2))], {"align_corners": 1}),
    ("Einsum", 12, [_normal(2, 3, 4), _normal(4, 5)], {"equation": "bij,jk->bik"}),
    ("Dropout", 13, [X, np.array(0.5, np.float32), np.array(False)], {}),
    ("CumSum", 14, [X, np.array(1)], {}),
    ("DequantizeLinear", 13, [np.array([[1, -9], [2**31 - 1, 5]], np.int32), _normal(2)], {"axis": 0}),
    ("DequantizeLinear", 13, [np.array([1, 200], np.uint8), np.array(0.1, np.float32), np.array(3, np.uint8)], {}),
    ("ArgMax", 13, [X], {"axis": 1}),
    ("Shape", 15, [X], {}),
    ("Identity", 16, [X], {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes"), CASES)
def test_operators_are_those_of_the_runtime(op: str, opset: int, inputs: list[Any], attributes: dict[str, Any]) -> None:
    _check(_one(op, max(opset, 7), inputs, attributes), _feeds(inputs))


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes"), CASES)
def test_operators_are_computed_in_float64(op: str, opset: int, inputs: list[Any], attributes: dict[str, Any]) -> None:
    """What is moved by less than float32 can tell shows in the results, which are no numbers of float32."""
    moved = [
        array.astype(F64) * (1 + 1e-10 * RNG.standard_normal(array.shape))
        if isinstance(array, np.ndarray) and array.dtype == np.float32 and not (op in ("Upsample", "Resize") and i)
        else array
        for i, array in enumerate(inputs)
    ]
    [found] = evaluate(ir.from_proto(_one(op, max(opset, 7), inputs, attributes)), _feeds(moved)).values()
    if found.dtype == np.float64:
        assert (found.astype(np.float32) != found).any()


def _random_window(rng: random.Random) -> tuple[onnx.ModelProto, dict[str, Any]]:
    op, rank = rng.choice(["Conv", "ConvTranspose", "AveragePool", "MaxPool"]), rng.choice([1, 2, 2, 3])
    kernel = [rng.choice([1, 2, 3]) for _ in range(rank)]
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": [rng.choice([1, 2]) for _ in range(rank)]}
    convolves = op.startswith("Conv")
    if rng.random() < 0.5:
        if convolves:
            attributes["dilations"] = [rng.choice([1, 2]) for _ in range(rank)]
        attributes["pads"] = [rng.randrange(min(kernel)) for _ in range(2 * rank)]
    elif convolves or max(attributes["strides"]) <= min(kernel):  # ONNX Runtime crops pools with gaps
        attributes["auto_pad"] = rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID"])
        if op == "ConvTranspose" and attributes["auto_pad"] != "VALID":
            attributes["strides"] = [1] * rank
    x = _normal(2, 4, *(rng.choice([5, 6, 7, 9]) for _ in range(rank)))
    weights = {}
    if convolves:
        group = rng.choice([1, 2, 4])
        attributes["group"] = group
        weights = {"w": _normal(4, 8 // group, *kernel) if op == "ConvTranspose" else _normal(8, 4 // group, *kernel)}
        weights["b"] = _normal(8)
        if op == "ConvTranspose" and max(attributes["strides"]) == 2 and rng.random() < 0.5:
            attributes["output_padding"] = [s - 1 for s in attributes["strides"]]
    elif rng.random() < 0.5:
        attributes["ceil_mode"] = 1
    if op == "AveragePool":
        attributes["count_include_pad"] = rng.choice([0, 1])
    node = helper.make_node(op, ["i0", *weights], ["y"], **attributes)
    return model([node], [value("i0", list(x.shape))], [value("y", None)], weights, 19), {"i0": x}


@pytest.mark.parametrize("seed", range(60))
def test_windows_are_those_of_the_runtime(seed: int) -> None:
    _check(*_random_window(random.Random(seed)))


@pytest.mark.parametrize("shape", [[10, 8], [9, 7], [8, 5]])
def test_output_shape_of_a_transposed_convolution(shape: list[int]) -> None:
    weights = {"w": _normal(4, 2, 3, 3)}
    node = helper.make_node("ConvTranspose", ["i0", "w"], ["y"], strides=[3, 2], output_shape=shape)
    proto = model([node], [value("i0", [1, 4, 3, 3])], [value("y", None)], weights)
    found = _check(proto, {"i0": _normal(1, 4, 3, 3)})
    assert found["y"].shape == (1, 2, *shape)


def test_depthwise_is_exact_to_float64() -> None:
    weights = {"w": _normal(6, 1, 3, 2)}
    x = _normal(1, 3, 7, 8)
    node = helper.make_node("Conv", ["i0", "w"], ["y"], group=3, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 1, 2])
    proto = model([node], [value("i0", list(x.shape))], [value("y", None)], weights)
    found = evaluate(ir.from_proto(proto), {"i0": x})["y"]
    padded = np.pad(x.astype(F64), [(0, 0), (0, 0), (1, 1), (0, 2)])
    expected = np.zeros(found.shape)
    for out, i, j in np.ndindex(6, *found.shape[2:]):
        window = padded[0, out // 2, 2 * i : 2 * i + 3, j : j + 3 : 2]
        expected[0, out, i, j] = (window * weights["w"][out, 0]).sum()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", [seed for seed in SEEDS if seed.__name__ not in ("runtime", "external", "signal")])
def test_whole_models_are_those_of_the_runtime(seed: Any) -> None:
    proto = seed()
    feeds = {}
    for info in proto.graph.input:
        shape = [dim.dim_value or 6 for dim in info.type.tensor_type.shape.dim]
        whole = info.type.tensor_type.elem_type == T.INT64
        feeds[info.name] = RNG.integers(0, 11, shape) if whole else _normal(*shape)
    _check(proto, feeds)


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
        _check(proto, {"x": sign * np.abs(_normal(1, 3, 4, 4))})


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
    found = _check(proto, {"x": np.array(1)})
    assert found["all"].tolist() == [10, 20, 40, 70, 110]


def test_functions_take_the_attributes_of_their_call() -> None:
    x = _normal(2, 3, 6, 6)
    proto = functions()
    first = _check(proto, {"x": x})["y"]
    proto.graph.node[0].attribute[0].f = 0.9
    assert not np.allclose(_check(proto, {"x": x})["y"], first)
    proto.functions[0].attribute[:] = []
    proto.functions[0].attribute_proto.append(helper.make_attribute("slope", 0.5))
    del proto.graph.node[1].attribute[:]
    _check(proto, {"x": x})


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
    x = _normal(size, size)
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
    x = _normal(2, 4, 6, 6)
    found = evaluate(read(tmp_path / "model.onnx"), {"x": x})["y"]
    np.testing.assert_array_equal(found, evaluate(ir.from_proto(head()), {"x": x})["y"])


# What has no reference


def test_inputs_that_are_missing_or_unknown() -> None:
    found = ir.from_proto(_one("Relu", 13, [X], {}))
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
        evaluate(ir.from_proto(_one(op, 20, inputs, attributes)), _feeds(inputs))
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
    found = ir.from_proto(_one("Relu", 13, [X], {}))
    node = found.graph.node(0)
    node.replace_input_with(0, ir.Value(name="nowhere"))
    with pytest.raises(InvalidArgument, match="nowhere: nothing computes this tensor"):
        evaluate(found, {"i0": X})
