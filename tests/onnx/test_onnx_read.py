"""Reading ONNX files: the good ones as they are, the bad ones in one sentence each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from convfold.errors import FileProblem, InvalidArgument
from convfold.graph.onnx import read as module
from convfold.graph.onnx.read import read
from support.onnx_reading import sentence, written
from support.onnx_seeds import SEEDS, branches, control, functions, head, model, runtime, value


@pytest.mark.parametrize("seed", SEEDS)
def test_valid_files_are_read(seed: Callable[[], onnx.ModelProto], tmp_path: Path) -> None:
    proto = seed()
    found = read(written(tmp_path, proto))
    assert [node.op_type for node in found.graph] == [node.op_type for node in proto.graph.node]
    for tensor in proto.graph.initializer:
        if tensor.data_location != T.EXTERNAL:
            kept = found.graph.initializers[tensor.name].const_value
            assert kept is not None
            np.testing.assert_array_equal(kept.numpy(), numpy_helper.to_array(tensor))


def test_domains_that_are_imported_and_not_used_are_no_matter(tmp_path: Path) -> None:
    proto = branches()
    proto.opset_import.append(helper.make_opsetid("pkg.somewhere", 3))
    assert read(written(tmp_path, proto)).opset_imports["pkg.somewhere"] == 3


# Files


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    assert "no such file" in sentence(tmp_path / "none.onnx", FileProblem)
    assert "a folder" in sentence(tmp_path, FileProblem)
    (tmp_path / "empty.onnx").touch()
    assert "is empty" in sentence(tmp_path / "empty.onnx", FileProblem)
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "not a regular file" in sentence(tmp_path / "pipe.onnx", FileProblem)
    with pytest.raises(FileProblem, match="cannot read"):
        read("a\0b")


def test_a_file_beyond_protobuf_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 100)
    assert "no ONNX file is this large" in sentence(written(tmp_path, head()), FileProblem)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_truncated(share: float, tmp_path: Path) -> None:
    content = branches().SerializeToString()
    assert "truncated" in sentence(written(tmp_path, content[: int(share * len(content))]), FileProblem)


@pytest.mark.parametrize("content", [b"# a text", b"PK\3\4" + b"0" * 200, b"\x89PNG\r\n\x1a\n", b"\0" * 64])
def test_not_onnx(content: bytes, tmp_path: Path) -> None:
    assert "not an ONNX model" in sentence(written(tmp_path, content), FileProblem)


def test_a_parsable_message_without_a_graph(tmp_path: Path) -> None:
    assert "no graph in it" in sentence(written(tmp_path, onnx.ModelProto(ir_version=8)), FileProblem)


def test_damaged_names(tmp_path: Path) -> None:
    content = branches().SerializeToString().replace(b"conv3", b"con\xff3")
    assert "a name in the file is no text: got b'con\\xff3'" in sentence(written(tmp_path, content), InvalidArgument)


def test_what_onnx_ir_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(proto: onnx.ModelProto) -> None:
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr(module.ir, "from_proto", refuse)
    text = sentence(written(tmp_path, head()), InvalidArgument)
    assert "onnx_ir cannot read" in text
    assert "first line" in text
    assert "second line" not in text


# What the model says


def _changed(seed: Callable[[], onnx.ModelProto], change: Callable[[onnx.ModelProto], Any]) -> onnx.ModelProto:
    proto = seed()
    change(proto)
    return proto


def _opset(version: int) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        proto.opset_import[0].version = version

    return change


def _cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "e"


def _operator(kind: str, domain: str = "") -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].op_type = kind
        proto.graph.node[0].domain = domain

    return change


def _attribute(name: str, given: Any) -> Callable[[onnx.ModelProto], None]:
    def change(proto: onnx.ModelProto) -> None:
        proto.graph.node[0].attribute.append(helper.make_attribute(name, given))

    return change


def _call_itself(proto: onnx.ModelProto) -> None:
    proto.functions[0].node.append(helper.make_node("Block", ["x", "w", "b"], ["z"], domain="local"))


def _two_functions(proto: onnx.ModelProto) -> None:
    proto.functions.append(proto.functions[0])


def _no_opset_in_function(proto: onnx.ModelProto) -> None:
    del proto.functions[0].opset_import[:]


def _sparse_attribute(proto: onnx.ModelProto) -> None:
    attribute = proto.graph.node[0].attribute.add(name="sparse", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.name = "s"


def _first(change: Callable[[onnx.TensorProto], Any]) -> Callable[[onnx.ModelProto], None]:
    return lambda proto: change(proto.graph.initializer[0])


def _first_size(size: int) -> Callable[[onnx.ModelProto], None]:
    return lambda proto: setattr(proto.graph.input[0].type.tensor_type.shape.dim[0], "dim_value", size)


def _in_subgraph(proto: onnx.ModelProto) -> None:
    proto.graph.node[2].attribute[0].g.node[0].op_type = "Convolve"


def _ill_typed(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = T.STRING


INVALID: list[tuple[Callable[[], onnx.ModelProto], Callable[[onnx.ModelProto], Any], str]] = [
    (branches, _opset(6), "opset of ai.onnx is not supported: got 6, expected 7 to"),
    (branches, _opset(999), "opset of ai.onnx is not supported: got 999"),
    (branches, _opset(-1), "opset of ai.onnx is not supported: got -1"),
    (branches, lambda proto: proto.ClearField("opset_import"), "opset of ai.onnx is missing"),
    (branches, lambda proto: proto.opset_import.add(domain="ai.onnx", version=9), "more than once"),
    (functions, _no_opset_in_function, "opset of ai.onnx in function 'Block' is missing"),
    (branches, _operator("Convv"), "Convv 'conv3' is no operator of ai.onnx at opset 17. Did you mean Conv?"),
    (branches, _operator("Gelu"), "Gelu 'conv3' is no operator of ai.onnx at opset 17. It is newer"),
    (control, _in_subgraph, "is no operator of ai.onnx at opset 17. Did you mean Conv?"),
    (branches, _operator("Conv", "my.domain"), "unknown domain: got 'my.domain'"),
    (functions, _operator("Other", "local"), "unknown domain: got 'local'"),
    (functions, _call_itself, "call each other in a circle"),
    (functions, _two_functions, "two functions of the file have the same name"),
    (branches, _cycle, "topologically sorted"),
    (branches, lambda proto: proto.graph.node.reverse(), "topologically sorted"),
    (branches, _ill_typed, "not a valid ONNX model"),
    (branches, lambda proto: proto.graph.output[0].ClearField("name"), "not a valid ONNX model"),
    (runtime, lambda proto: proto.opset_import.pop(), "No opset import for domain"),
    (branches, _first_size(2**31), "an input is too large to be run: got x [2147483648, 3]"),
    (branches, lambda proto: proto.training_info.add(), "graphs for training"),
    (branches, lambda proto: proto.graph.sparse_initializer.add(), "sparse tensors are not supported"),
    (branches, _sparse_attribute, "sparse tensors are not supported: got Conv 'conv3'"),
    (branches, _first(lambda tensor: tensor.ClearField("name")), "an initialiser has no name"),
    (branches, _attribute("pads", [1, 1, 1, 1]), "has an attribute twice"),
    (branches, _attribute("group", 0), "impossible 'group': got 0, expected 1 to 2147483647"),
    (branches, _attribute("strides", [1, -1]), "impossible 'strides': got -1"),
    (branches, _attribute("dilations", [2**40, 1]), "impossible 'dilations'"),
    (branches, _attribute("auto_pad", b"\xff\xfe"), "has no text in 'auto_pad'"),
    (branches, _attribute("group", 3), "weights of Conv 'conv3' do not go with its attributes: got [4, 3, 3, 3]"),
    (branches, lambda proto: proto.graph.node[0].input.__setitem__(2, "w3"), "has not one number for each channel"),
    (branches, _attribute("kernel_shape", [3, 5]), "do not go with its attributes"),
    (branches, _first(lambda tensor: tensor.dims.append(2)), "does not fill its shape: got 432 bytes, expected 864"),
    (head, lambda proto: proto.graph.initializer[4].dims.append(-1), "has a negative size: got [2, -1]"),
    (branches, _first(lambda tensor: tensor.dims.extend([2**40, 2**40])), "larger than any memory"),
    (branches, _first(lambda tensor: setattr(tensor, "data_type", 77)), "has an unknown type: got 77"),
    (branches, _first(lambda tensor: setattr(tensor, "data_type", 0)), "has no type"),
    (branches, _first(lambda tensor: setattr(tensor, "data_type", T.STRING)), "texts where numbers belong"),
    (branches, _first(lambda tensor: tensor.ClearField("raw_data")), "does not fill its shape"),
]


@pytest.mark.parametrize(("seed", "change", "expected"), INVALID)
def test_models_that_are_not_valid(
    seed: Callable[[], onnx.ModelProto], change: Callable[[onnx.ModelProto], Any], expected: str, tmp_path: Path
) -> None:
    text = sentence(written(tmp_path, _changed(seed, change)), InvalidArgument)
    assert expected in text
    assert len(text) < 600


def test_a_count_that_would_take_days(tmp_path: Path) -> None:
    node = helper.make_node(
        "TfIdfVectorizer", ["x"], ["y"], max_gram_length=2, min_gram_length=2, max_skip_count=2**31, mode="TF",
        ngram_counts=[0, 0], ngram_indexes=[0], pool_int64s=[2, 3],
    )  # fmt: skip
    proto = model([node], [value("x", [4], T.INT64)], [value("y", ["n"])])
    assert "impossible 'max_skip_count': got 2147483648" in sentence(written(tmp_path, proto), InvalidArgument)


def test_typed_fields_that_do_not_fit(tmp_path: Path) -> None:
    tensor = helper.make_tensor("k", T.INT8, [2], [1, 2])
    tensor.int32_data.append(3)
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    proto = model(nodes, [value("x", [1])], [value("y", [1])])
    proto.graph.initializer.append(tensor)
    assert "does not fill its shape: expected [2]" in sentence(written(tmp_path, proto), InvalidArgument)
