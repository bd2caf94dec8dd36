"""Operators of the float64 reference against ONNX Runtime in float32, and against numpy in float64."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from convfold.graph.onnx.evaluate import evaluate
from support.onnx_reference import RNG, check, feeds_of, normal, one_node
from support.onnx_seeds import model, value

X = normal(2, 4, 6, 5)
F64 = np.float64
# Operator, opset, inputs, attributes: where opsets differ in what they mean, both sides of it.
CASES: list[tuple[str, int, list[Any], dict[str, Any]]] = [
    ("Add", 13, [X, normal(5)], {}),
    ("Sub", 13, [X, normal(4, 1, 1)], {}),
    ("Mul", 13, [X, normal(1)], {}),
    ("Div", 13, [X, np.abs(normal(5)) + 1], {}),
    ("Div", 13, [np.array([-7, 7]), np.array([2, -2])], {}),
    ("Sum", 13, [X, X[:1], normal(5)], {}),
    ("Max", 13, [X, normal(5), normal(6, 1)], {}),
    ("Min", 13, [X, normal(5)], {}),
    ("Pow", 13, [np.abs(X), np.array(2.5, np.float32)], {}),
    ("MatMul", 13, [X, normal(5, 3)], {}),
    ("MatMul", 13, [normal(4, 3), normal(3)], {}),
    ("Gemm", 13, [normal(5, 3), normal(4, 5), normal(4)], {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}),
    ("Gemm", 13, [normal(3, 5), normal(5, 4)], {}),
    ("BatchNormalization", 9, [X, normal(4), normal(4), normal(4), np.abs(normal(4))], {"epsilon": 0.01}),
    ("BatchNormalization", 15, [X, normal(4), normal(4), normal(4), np.abs(normal(4))], {}),
    ("BatchNormalization", 15, [normal(3, 4), *[np.abs(normal(4)) for _ in range(4)]], {}),
    ("InstanceNormalization", 6 + 1, [X, normal(4), normal(4)], {"epsilon": 0.1}),
    ("LayerNormalization", 17, [X, normal(6, 5), normal(6, 5)], {"axis": 2}),
    ("LayerNormalization", 17, [X, normal(5)], {}),
    ("GroupNormalization", 21, [X, normal(4), normal(4)], {"num_groups": 2}),
    ("RMSNormalization", 23, [X, normal(5)], {}),
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
    ("PRelu", 16, [X, normal(4, 1, 1)], {}),
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
    ("Expand", 13, [normal(4, 1, 1), np.array([2, 1, 3, 1])], {}),
    ("Tile", 13, [X, np.array([1, 2, 1, 3])], {}),
    ("Where", 16, [X > 0, X, 2 * X], {}),
    ("DepthToSpace", 13, [X], {"blocksize": 2, "mode": "CRD"}),
    ("Upsample", 9, [X, np.array([1, 1, 2, 3], np.float32)], {"mode": "nearest"}),
    ("Upsample", 9, [X, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("Upsample", 7, [X], {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 2.0]}),
    ("Resize", 10, [X, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("Resize", 13, [X, None, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("Resize", 13, [X, None, None, np.array([2, 4, 9, 9])], {"mode": "cubic"}),
    ("GridSample", 16, [X, np.tanh(normal(2, 3, 4, 2))], {"align_corners": 1}),
    ("Einsum", 12, [normal(2, 3, 4), normal(4, 5)], {"equation": "bij,jk->bik"}),
    ("Dropout", 13, [X, np.array(0.5, np.float32), np.array(False)], {}),
    ("CumSum", 14, [X, np.array(1)], {}),
    ("DequantizeLinear", 13, [np.array([[1, -9], [2**31 - 1, 5]], np.int32), normal(2)], {"axis": 0}),
    ("DequantizeLinear", 13, [np.array([1, 200], np.uint8), np.array(0.1, np.float32), np.array(3, np.uint8)], {}),
    ("ArgMax", 13, [X], {"axis": 1}),
    ("Shape", 15, [X], {}),
    ("Identity", 16, [X], {}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes"), CASES)
def test_operators_are_those_of_the_runtime(op: str, opset: int, inputs: list[Any], attributes: dict[str, Any]) -> None:
    check(one_node(op, max(opset, 7), inputs, attributes), feeds_of(inputs))


@pytest.mark.parametrize(("op", "opset", "inputs", "attributes"), CASES)
def test_operators_are_computed_in_float64(op: str, opset: int, inputs: list[Any], attributes: dict[str, Any]) -> None:
    """What is moved by less than float32 can tell shows in the results, which are no numbers of float32."""
    moved = [
        array.astype(F64) * (1 + 1e-10 * RNG.standard_normal(array.shape))
        if isinstance(array, np.ndarray) and array.dtype == np.float32 and not (op in ("Upsample", "Resize") and i)
        else array
        for i, array in enumerate(inputs)
    ]
    [found] = evaluate(ir.from_proto(one_node(op, max(opset, 7), inputs, attributes)), feeds_of(moved)).values()
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
    x = normal(2, 4, *(rng.choice([5, 6, 7, 9]) for _ in range(rank)))
    weights = {}
    if convolves:
        group = rng.choice([1, 2, 4])
        attributes["group"] = group
        weights = {"w": normal(4, 8 // group, *kernel) if op == "ConvTranspose" else normal(8, 4 // group, *kernel)}
        weights["b"] = normal(8)
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
    check(*_random_window(random.Random(seed)))


@pytest.mark.parametrize("shape", [[10, 8], [9, 7], [8, 5]])
def test_output_shape_of_a_transposed_convolution(shape: list[int]) -> None:
    weights = {"w": normal(4, 2, 3, 3)}
    node = helper.make_node("ConvTranspose", ["i0", "w"], ["y"], strides=[3, 2], output_shape=shape)
    proto = model([node], [value("i0", [1, 4, 3, 3])], [value("y", None)], weights)
    found = check(proto, {"i0": normal(1, 4, 3, 3)})
    assert found["y"].shape == (1, 2, *shape)


def test_depthwise_is_exact_to_float64() -> None:
    weights = {"w": normal(6, 1, 3, 2)}
    x = normal(1, 3, 7, 8)
    node = helper.make_node("Conv", ["i0", "w"], ["y"], group=3, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 1, 2])
    proto = model([node], [value("i0", list(x.shape))], [value("y", None)], weights)
    found = evaluate(ir.from_proto(proto), {"i0": x})["y"]
    padded = np.pad(x.astype(F64), [(0, 0), (0, 0), (1, 1), (0, 2)])
    expected = np.zeros(found.shape)
    for out, i, j in np.ndindex(6, *found.shape[2:]):
        window = padded[0, out // 2, 2 * i : 2 * i + 3, j : j + 3 : 2]
        expected[0, out, i, j] = (window * weights["w"][out, 0]).sum()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
