"""A model in ONNX Runtime: exported, optimised, counted and timed on one thread."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument

__all__ = ["LARGEST", "export", "optimised_nodes", "runner"]

OPSET = 17
# A protobuf holds 2 GiB; the optimised graph is written as one.
LARGEST = 1_500_000_000
_COUNTED = ("Conv", "Gemm", "BatchNormalization", "Add")


def export(model: nn.Module, x: Tensor, path: Path) -> Path:
    """Write `model` for inputs like `x` as ONNX; by tracing, which is fast and takes every eager model."""
    held = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    if held > LARGEST:
        raise InvalidArgument("its weights do not fit one ONNX file", got=f"{held:,} bytes", expected=f"<= {LARGEST:,}")
    torch.onnx.export(model, (x,), str(path), dynamo=False, opset_version=OPSET)
    return path


def _session(path: Path, level: str, optimised: Path | None = None) -> Any:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def optimised_nodes(path: Path) -> dict[str, int]:
    """Nodes of ONNX Runtime's optimised graph: all, and those of four kinds, fused ones under their first name.

    Optimised as far as it goes without a change of memory layout, which would rename the nodes.
    """
    optimised = path.with_suffix(".optimised.onnx")
    _session(path, "ORT_ENABLE_EXTENDED", optimised)
    nodes = importlib.import_module("onnx").load(str(optimised), load_external_data=False).graph.node
    kinds = Counter(node.op_type.removeprefix("Fused") for node in nodes)
    return {"nodes": len(nodes), **{kind: kinds[kind] for kind in _COUNTED}}


def runner(path: Path, x: Tensor) -> Callable[[], object]:
    """One run on `x`, with every optimisation, on one thread."""
    session = _session(path, "ORT_ENABLE_ALL")
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)
