"""A small ONNX file in training structure: branches, a batch normalisation, and a head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["CHANNELS", "branched", "save"]

CHANNELS = 8
_NORM = ("scale", "shift", "mean", "variance")


def branched(
    seed: int = 0, size: int | str = "size", channels: int = CHANNELS, batch: int | str = "batch"
) -> onnx.ModelProto:
    """``Relu(BN(conv3x3(x)) + conv1x1(x))``, a global pooling and a product; heights and widths are one open size."""
    generator = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"wide": (channels, channels, 3, 3), "narrow": (channels, channels, 1, 1)}
    shapes |= dict.fromkeys((*_NORM, "bias"), (channels,)) | {"head": (channels, 3), "offset": (3,)}
    held = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    held["variance"] = np.abs(held["variance"]) + 0.5
    nodes = [
        helper.make_node("Conv", ["x", "wide"], ["a"], name="wide_conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", *_NORM], ["b"], name="norm"),
        helper.make_node("Conv", ["x", "narrow", "bias"], ["c"], name="narrow_conv"),
        helper.make_node("Add", ["b", "c"], ["d"], name="join"),
        helper.make_node("Relu", ["d"], ["e"], name="act"),
        helper.make_node("GlobalAveragePool", ["e"], ["f"], name="pool"),
        helper.make_node("Flatten", ["f"], ["g"], name="flat"),
        helper.make_node("Gemm", ["g", "head", "offset"], ["y"], name="product"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, channels, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(array, name) for name, array in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def save(model: onnx.ModelProto, path: Path, apart: str = "") -> Path:
    """Write it; `apart` names a file that the weights go to."""
    options: dict[str, Any] = {}
    if apart:
        options = {"save_as_external_data": True, "location": apart, "size_threshold": 0}
    onnx.save(model, path, **options)
    return path
