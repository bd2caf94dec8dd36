"""Files that ask for more than there is: a sentence, and nothing computed that no weight needs."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import convfold
from convfold.errors import InvalidArgument
from convfold.graph.onnx.capture import capture
from support.onnx_small import branched


def filled(*sizes: int) -> ir.Model:
    """``x + 0.5`` of a tensor that ConstantOfShape fills."""
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["shape"], ["half"], value=numpy_helper.from_array(np.array([0.5], np.float32))
        ),
        helper.make_node("ReduceMean", ["half"], ["mean"], axes=list(range(len(sizes))), keepdims=0),
        helper.make_node("Add", ["x", "mean"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 3, 3]) for name in "xy"]
    shape = numpy_helper.from_array(np.array(sizes, np.int64), "shape")
    graph = helper.make_graph(nodes, "filled", ends[:1], ends[1:], [shape])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))


def test_a_small_fill_is_a_constant_and_a_huge_one_stays_a_node() -> None:
    small, huge = capture(filled(4, 4)), capture(filled(2**20, 2**10))
    assert set(small.names.values()) == {"x", "y"}
    assert set(huge.names.values()) == {"x", "y", "half", "mean"}


def test_too_little_memory_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(branched(), tmp_path / "given.onnx")

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(importlib.import_module("convfold.plan.onnx.plan"), "check", fail)
    with pytest.raises(InvalidArgument, match="folding it takes more memory than there is"):
        convfold.fold_onnx(tmp_path / "given.onnx", tmp_path / "folded.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["given.onnx"]
