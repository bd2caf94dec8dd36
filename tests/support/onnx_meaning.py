"""What the definitions of a captured file mean, against what onnx says that its nodes compute."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from convfold.graph.onnx.capture import capture
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.evaluate import evaluate
from convfold.graph.program import Linear, Node
from support.programs import check_nodes

__all__ = ["captured_and_checked", "kind_of"]


def captured_and_checked(model: onnx.ModelProto, seed: int = 0, **shapes: tuple[int, ...]) -> CapturedFile:
    """The captured model; every definition computed by torch is what the file's node computes in float64."""
    captured = capture(ir.serde.deserialize_model(model), shapes or None)
    numbers = np.random.default_rng(seed)
    program, names = captured.program, captured.names
    feeds = {}
    for value in captured.model.graph.inputs:
        name = value.name or ""
        if name not in {tensor.name for tensor in model.graph.initializer}:
            real = value.dtype is not None and value.dtype.is_floating_point()
            shape = captured.example[name]
            feeds[name] = numbers.standard_normal(shape) if real else numbers.integers(0, 2, shape) > 0
    found = evaluate(captured.model, feeds, list(names.values()))
    values = {number: torch.from_numpy(np.ascontiguousarray(found[name])) for number, name in names.items()}
    for number, value in values.items():
        assert tuple(value.shape) == program.values[number].shape

    def again(number: int, source: int, value: Tensor) -> Tensor:
        result = evaluate(captured.model, {**feeds, names[source]: value.numpy()}, [names[number]])
        return torch.from_numpy(np.ascontiguousarray(result[names[number]]))

    check_nodes(captured, values, again)
    return captured


def kind_of(captured: CapturedFile, name: str) -> str:
    """What the definition of a tensor is, in words: its maps, "shift", or the kind of the node."""
    number = next(n for n, found in captured.names.items() if found == name)
    node: Node = captured.program.nodes[number]
    if not isinstance(node, Linear):
        return type(node).__name__
    kinds = [term.map.kind for term in node.terms]
    return " + ".join([*kinds, *(["shift"] if node.shift is not None else [])])
