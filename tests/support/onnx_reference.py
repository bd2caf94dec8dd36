"""Models of one node, and the float64 reference held to ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto as T
from onnx import helper

from convfold.graph.onnx.evaluate import evaluate
from convfold.verify.onnx import run_file
from support.onnx_seeds import model, value

__all__ = ["RNG", "check", "feeds_of", "normal", "one_node"]

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RNG.standard_normal(shape).astype(np.float32)


def one_node(op: str, opset: int, inputs: list[Any], attributes: dict[str, Any], outputs: int = 1) -> onnx.ModelProto:
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


def check(proto: onnx.ModelProto, feeds: dict[str, Any], tolerance: float = 1e-5) -> dict[str, Any]:
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


def feeds_of(inputs: list[Any]) -> dict[str, Any]:
    return {f"i{i}": array for i, array in enumerate(inputs) if array is not None}
