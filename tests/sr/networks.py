"""Folded networks and their ONNX files, and files that are something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from convfold import fold
from convfold.train.sr import sr_arm, sr_network


def folded(scale: int, width: int = 4, depth: int = 3) -> nn.Module:
    """A network whose every weight matters, folded from a wide one."""
    torch.manual_seed(scale)
    wide = sr_arm(sr_network(scale, 1, width, depth), "doconv").eval()
    with torch.no_grad():
        for parameter in wide.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return fold(wide)


def other_file(
    path: Path,
    nodes: list[Any] | None = None,
    inputs: list[tuple[str, list[Any]]] | None = None,
    outputs: list[str] | None = None,
    notes: str | None = None,
    opset: int = 17,
    constants: list[Any] | None = None,
) -> Path:
    """A small valid ONNX file; without more, x to x."""
    shapes = inputs or [("x", ["n", 1, "h", "w"])]
    graph = helper.make_graph(
        nodes or [helper.make_node("Identity", [shapes[0][0]], ["y"])],
        "other",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs or ["y"]],
        constants or [],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    if notes is not None:
        model.metadata_props.add(key="convfold.sr", value=notes)
    onnx.save(model, path)
    return path
