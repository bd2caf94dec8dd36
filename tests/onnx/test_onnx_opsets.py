"""onnx's own domain has two spellings: a file that imports "ai.onnx" means what one means that imports ""."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper

from convfold.graph.onnx.nodes import inner_graphs, opset_of, opsets, reads
from convfold.plan.onnx.pads import pad_behind
from convfold.transform.fold_onnx import fold_onnx, plan_onnx
from convfold.verify.onnx import verify_files
from convfold.verify.onnx.sizes import sizes_to_compare
from support.onnx_files import build, capture, conv_norm, node
from support.onnx_small import branched, save


def respelled(proto: onnx.ModelProto) -> onnx.ModelProto:
    """onnx's checker takes the longer spelling in imports only, not in nodes."""
    for entry in proto.opset_import:
        entry.domain = entry.domain or "ai.onnx"
    return proto


def sized() -> onnx.ModelProto:
    """A convolution and its norm, cut down to a size that is read off the input, as of version 10."""
    nodes, held = conv_norm("r")
    held |= {"zero": np.array([0]), "one": np.array([1]), "minus": np.array([-1])}
    nodes += [
        node("Shape", "x", "sizes"),
        node("Gather", "sizes zero", "batch"),
        node("Concat", "batch minus", "flat", axis=0),
        node("Reshape", "r flat", "y"),
    ]
    model = build(nodes, {"x": ["n", 3, 6, 5]}, {"y": ["n", "m"]}, held, opset=13)
    return ir.serde.serialize_model(model)


@pytest.mark.parametrize("make", [branched, sized])
def test_a_file_that_imports_ai_onnx_folds(tmp_path: Path, make: Callable[[], onnx.ModelProto]) -> None:
    plain = save(make(), tmp_path / "plain.onnx")
    spelled = save(respelled(make()), tmp_path / "spelled.onnx")
    expected, found = plan_onnx(plain), fold_onnx(spelled, tmp_path / "folded.onnx")
    assert found.plan.after == expected.after
    assert found.plan.before == expected.before
    assert found.plan.after.operators < found.plan.before.operators
    assert found.certificate.equal
    assert verify_files(spelled, found.path, sizes_to_compare(spelled))
    assert onnx.load(found.path).opset_import == onnx.load(spelled).opset_import
    assert {entry.domain for entry in onnx.load(found.path).opset_import} == {"ai.onnx"}


def test_versions_are_those_of_either_spelling() -> None:
    assert opset_of({"ai.onnx": 13, "own": 2}) == opset_of({"": 13}) == 13
    assert opset_of({"own": 2}) == 0
    assert opsets({"ai.onnx": 13, "own": 2}) == {"": 13, "own": 2}


def test_a_pad_is_read_by_the_version_of_either_spelling() -> None:
    """Before version 11 its numbers are attributes, since then inputs."""
    for domain in ("", "ai.onnx"):
        nodes = [node("Pad", "x pads", "y")]
        model = build(nodes, {"x": [1, 4, 4, 3]}, {"y": [1, 6, 6, 3]}, {"pads": np.array([0, 1, 1, 0, 0, 1, 1, 0])})
        model = ir.from_proto(respelled(ir.serde.serialize_model(model))) if domain else model
        captured = capture(model)
        m = pad_behind(captured, captured.model.graph[0], (0, 3, 1, 2), 3)
        assert m is not None
        assert [(axis.lo, axis.hi) for axis in m.window] == [(1, 1), (1, 1)]


def test_a_node_reads_what_the_graphs_inside_it_read() -> None:
    def branch(name: str, source: str) -> onnx.GraphProto:
        inside = helper.make_graph([node("Neg", source, f"{name}_in")], "inside", [], [_info(f"{name}_in")])
        both = node("If", "flag", f"{name}_out", then_branch=inside, else_branch=inside)
        return helper.make_graph([both], name, [], [_info(f"{name}_out")])

    held = {"flag": np.array(True)}
    choice = node("If", "flag", "y", then_branch=branch("one", "x"), else_branch=branch("two", "z"))
    model = build([choice], {"x": [2], "z": [2]}, {"y": [2]}, held)
    first = model.graph[0]
    assert sorted(graph.name or "" for graph in inner_graphs(first)) == ["one", "two"]
    assert {"flag", "x", "z", "one_out", "one_in"} <= {value.name for value in reads(first)}


def _info(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2])
