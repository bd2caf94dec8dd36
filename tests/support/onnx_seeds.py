"""Small valid ONNX models of many kinds, to be damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

__all__ = ["SEEDS", "external_data", "model", "value"]


def value(name: str, shape: list[Any] | None, kind: int = T.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, Any] | None = None,
    opset: int = 17,
    **more: Any,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), *more.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8 if opset < 20 else 10, **more)


def _noise(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def _bn(name: str, x: str, y: str, channels: int, weights: dict[str, Any]) -> onnx.NodeProto:
    for part in ("scale", "bias", "mean", "var"):
        weights[f"{name}.{part}"] = np.abs(_noise(channels)) + 0.1 if part == "var" else _noise(channels)
    return helper.make_node(
        "BatchNormalization", [x, *(f"{name}.{part}" for part in ("scale", "bias", "mean", "var"))], [y], name=name
    )


def branches() -> onnx.ModelProto:
    weights: dict[str, Any] = {"w3": _noise(4, 3, 3, 3), "b3": _noise(4), "w1": _noise(4, 3, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w3", "b3"], ["a"], pads=[1, 1, 1, 1], name="conv3"),
        helper.make_node("Conv", ["x", "w1"], ["b"], kernel_shape=[1, 1], name="conv1"),
        _bn("bn1", "a", "c", 4, weights),
        _bn("bn2", "b", "d", 4, weights),
        helper.make_node("Add", ["c", "d"], ["e"]),
        helper.make_node("Relu", ["e"], ["y"]),
    ]
    return model(nodes, [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 4, "h", "w"])], weights, 17)


def chain() -> onnx.ModelProto:
    weights: dict[str, Any] = {
        "w1": _noise(6, 3, 1, 1),
        "w3": _noise(4, 6, 3, 3),
        "b": _noise(4),
        "d": _noise(4, 1, 3, 3),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Conv", ["a", "w3", "b"], ["c"], strides=[2, 2]),
        helper.make_node("Conv", ["c", "d"], ["y"], group=4, auto_pad="SAME_UPPER"),
    ]
    return model(nodes, [value("x", [1, 3, 11, 9])], [value("y", ["n", 4, "h", "w"])], weights, 11)


def head() -> onnx.ModelProto:
    weights: dict[str, Any] = {
        "w": _noise(8, 4, 1, 1), "fc": _noise(5, 8), "fb": _noise(5), "m": _noise(5, 5), "shape": np.array([0, -1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["p"]),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "fb"], ["g"], transB=1, alpha=0.5),
        helper.make_node("MatMul", ["g", "m"], ["h"]),
        helper.make_node("Softmax", ["h"], ["y"], axis=1),
    ]
    return model(nodes, [value("x", ["n", 4, 6, 6])], [value("y", ["n", 5])], weights, 13)


def shuffle() -> onnx.ModelProto:
    weights: dict[str, Any] = {
        "w": _noise(4, 4, 1, 1), "s1": np.array([0, 2, 2, 6, 6]), "s2": np.array([0, 4, 6, 6]),
        "split": np.array([1, 3]), "start": np.array([1]), "end": np.array([3]), "axes": np.array([1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Reshape", ["a", "s1"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["c", "s2"], ["d"]),
        helper.make_node("Split", ["d", "split"], ["e", "f"], axis=1),
        helper.make_node("Concat", ["f", "e"], ["g"], axis=1),
        helper.make_node("Slice", ["g", "start", "end", "axes"], ["y"]),
    ]
    return model(nodes, [value("x", [2, 4, 6, 6])], [value("y", ["n", "c", 6, 6])], weights, 13)


def constants() -> onnx.ModelProto:
    weights: dict[str, Any] = {
        "w": _noise(2, 3, 3, 3),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "k": np.float32(2.0),
    }
    one = numpy_helper.from_array(np.array([0.25], np.float32))
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["a"]),
        helper.make_node("Constant", [], ["s"], value=numpy_helper.from_array(np.array([1, 2, 1, 1]))),
        helper.make_node("ConstantOfShape", ["s"], ["cs"], value=one),
        helper.make_node("Mul", ["a", "cs"], ["b"]),
        helper.make_node("Div", ["b", "k"], ["c"]),
        helper.make_node("Shape", ["c"], ["sh"]),
        helper.make_node("Expand", ["cs", "sh"], ["ex"]),
        helper.make_node("Sub", ["c", "ex"], ["d"]),
        helper.make_node("Cast", ["d"], ["y"], to=T.DOUBLE),
    ]
    return model(nodes, [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 2, "p", "q"], T.DOUBLE)], weights, 17)


def pools() -> onnx.ModelProto:
    weights: dict[str, Any] = {
        "w": _noise(3, 4, 2, 2),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w3": _noise(2, 4, 1, 1),
    }
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["a"], strides=[2, 2]),
        helper.make_node("AveragePool", ["a"], ["b"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        helper.make_node("MaxPool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        helper.make_node("Resize", ["c", "", "scales"], ["d"], mode="linear"),
        helper.make_node("Conv", ["d", "w3"], ["y"], dilations=[1, 1]),
    ]
    return model(nodes, [value("x", [1, 3, 5, 7])], [value("y", [1, 2, 10, 14])], weights, 13)


def control() -> onnx.ModelProto:
    weights: dict[str, Any] = {
        "w": _noise(3, 3, 1, 1),
        "half": np.float32(0.5),
        "zero": np.float32(0),
        "three": np.array(3),
    }
    then = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["t"])], "then", [], [value("t", None)])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["o"])], "else", [], [value("o", None)])
    body = helper.make_graph(
        [helper.make_node("Mul", ["v", "half"], ["v2"]), helper.make_node("Identity", ["go"], ["go2"])],
        "body",
        [value("i", [], T.INT64), value("go", [], T.BOOL), value("v", None)],
        [value("go2", [], T.BOOL), value("v2", None)],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["a"], then_branch=then, else_branch=other),
        helper.make_node("Loop", ["three", "", "a"], ["b"], body=body),
        helper.make_node("Conv", ["b", "w"], ["y"]),
    ]
    return model(nodes, [value("x", [1, 3, 4, 4])], [value("y", [1, 3, 4, 4])], weights, 17)


def functions() -> onnx.ModelProto:
    weights: dict[str, Any] = {"w": _noise(3, 3, 3, 3), "b": _noise(3)}
    leaky = helper.make_node("LeakyRelu", ["v"], ["u"])
    leaky.attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT))
    block = helper.make_function(
        "local", "Block", ["x", "w", "b"], ["u"],
        [helper.make_node("Conv", ["x", "w", "b"], ["v"], pads=[1, 1, 1, 1]), leaky],
        [helper.make_opsetid("", 18)], ["slope"],
    )  # fmt: skip
    nodes = [
        helper.make_node("Block", ["x", "w", "b"], ["a"], domain="local", slope=0.1),
        helper.make_node("Block", ["a", "w", "b"], ["c"], domain="local", slope=0.3),
        helper.make_node("Conv", ["c", "w"], ["y"]),
    ]
    return model(
        nodes, [value("x", ["n", 3, 6, 6])], [value("y", ["n", 3, 4, 4])], weights, 18,
        functions=[block], imports=[helper.make_opsetid("local", 1)],
    )  # fmt: skip


def embedding() -> onnx.ModelProto:
    weights: dict[str, Any] = {"table": _noise(11, 6), "w": _noise(6, 6), "scale": _noise(6), "bias": _noise(6)}
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"]),
        helper.make_node("LayerNormalization", ["e", "scale", "bias"], ["n"], axis=-1),
        helper.make_node("MatMul", ["n", "w"], ["h"]),
        helper.make_node("Gelu", ["h"], ["g"]),
        helper.make_node("Add", ["g", "e"], ["y"]),
        helper.make_node("ArgMax", ["y"], ["best"], axis=-1, keepdims=0),
    ]
    outputs = [value("y", ["b", "t", 6]), value("best", ["b", "t"], T.INT64)]
    return model(nodes, [value("ids", ["b", "t"], T.INT64)], outputs, weights, 20)


def signal() -> onnx.ModelProto:
    weights: dict[str, Any] = {"w": _noise(4, 2, 5).astype(np.float16), "f": _noise(4, 4, 1, 1, 1)}
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=T.FLOAT16),
        helper.make_node("Conv", ["h", "w"], ["a"], auto_pad="SAME_LOWER", strides=[2]),
        helper.make_node("Cast", ["a"], ["b"], to=T.FLOAT),
        helper.make_node("Unsqueeze", ["b", "axes"], ["c"]),
        helper.make_node("Conv", ["c", "f"], ["y"]),
    ]
    weights["axes"] = np.array([3, 4])
    return model(nodes, [value("x", ["n", 2, 16])], [value("y", ["n", 4, 8, 1, 1])], weights, 13)


def runtime() -> onnx.ModelProto:
    weights: dict[str, Any] = {"w": _noise(3, 3, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("FusedConv", ["a", "w"], ["b"], domain="com.microsoft", activation="Relu"),
        helper.make_node("Gelu", ["b"], ["y"], domain="com.microsoft"),
    ]
    imports = [helper.make_opsetid("com.microsoft", 1)]
    return model(nodes, [value("x", [1, 3, 4, 4])], [value("y", [1, 3, 4, 4])], weights, 17, imports=imports)


def external_data() -> bytes:
    """What `external` expects in ``w.bin`` beside it."""
    return b"".join(tensor.raw_data for tensor in head().graph.initializer if tensor.data_type == T.FLOAT)


def external() -> onnx.ModelProto:
    """`head` with its weights in ``w.bin``."""
    found = head()
    offset = 0
    for tensor in found.graph.initializer:
        if tensor.data_type != T.FLOAT:  # ONNX Runtime wants shapes in the model
            continue
        length = len(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = T.EXTERNAL
        for key, text in (("location", "w.bin"), ("offset", str(offset)), ("length", str(length))):
            tensor.external_data.add(key=key, value=text)
        offset += length
    return found


SEEDS: tuple[Callable[[], onnx.ModelProto], ...] = (
    branches, chain, head, shuffle, constants, pools, control, functions, embedding, signal, runtime, external,
)  # fmt: skip
