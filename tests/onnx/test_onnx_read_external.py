"""Weights in other files: found where they are, and nowhere but in the model's folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from convfold.errors import ConvfoldError, FileProblem, InvalidArgument
from convfold.graph.onnx.read import read
from support.onnx_reading import sentence, written
from support.onnx_seeds import external, external_data, functions, head


def test_external_data_stays_in_its_file_and_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, external())
    found = read(path)
    held = found.graph.initializers["fc"].const_value
    assert isinstance(held, ir.ExternalTensor)
    assert held.raw is None, "reading the model read the weights"
    expected = {tensor.name: numpy_helper.to_array(tensor) for tensor in head().graph.initializer}
    np.testing.assert_array_equal(held.numpy(), expected["fc"])
    monkeypatch.chdir(tmp_path)
    by_name = read("model.onnx").graph.initializers["w"].const_value
    assert by_name is not None
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(by_name.numpy(), expected["w"])


def test_shapes_in_external_data_are_seen_by_the_check(tmp_path: Path) -> None:
    """onnx's own check refuses a Reshape whose shape is in another file."""
    path = written(tmp_path, head())
    onnx.save(head(), path, save_as_external_data=True, location="all.bin", size_threshold=0)
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.checker.check_model(str(path), full_check=True)
    assert isinstance(read(path).graph.initializers["shape"].const_value, ir.ExternalTensor)


def test_external_data_of_a_function_is_found(tmp_path: Path) -> None:
    proto = functions()
    tensor = numpy_helper.from_array(np.arange(3, dtype=np.float32), "c")
    (tmp_path / "c.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    tensor.external_data.add(key="location", value="c.bin")
    body = proto.functions[0]
    body.node[1].output[0] = "before"
    body.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    body.node.append(helper.make_node("Unsqueeze", ["c", "axes"], ["c4"]))
    body.node.append(helper.make_node("Add", ["before", "c4"], ["u"]))
    axes = numpy_helper.from_array(np.array([0, 2, 3]))
    body.node.insert(0, helper.make_node("Constant", [], ["axes"], value=axes))
    found = read(written(tmp_path, proto))
    [function] = found.functions.values()
    [held] = [
        node.attributes["value"].value
        for node in function
        if node.op_type == "Constant" and isinstance(node.attributes["value"].value, ir.ExternalTensor)
    ]
    np.testing.assert_array_equal(held.numpy(), [0, 1, 2])


def _entry(key: str, text: str | None) -> onnx.ModelProto:
    """`external` with another entry for the first tensor; without it where `text` is None."""
    proto = external()
    tensor = proto.graph.initializer[0]
    kept = [(entry.key, entry.value) for entry in tensor.external_data if entry.key != key]
    tensor.ClearField("external_data")
    for name, given in [*kept, *([(key, text)] if text is not None else [])]:
        tensor.external_data.add(key=name, value=given)
    return proto


@pytest.mark.parametrize(
    ("key", "text", "kind", "expected"),
    [
        ("location", "none.bin", FileProblem, "external data of tensor 'w' is missing: got none.bin"),
        ("location", "../w.bin", FileProblem, "outside the model's folder: got ../w.bin"),
        ("location", "a/../w.bin", FileProblem, "outside the model's folder"),
        ("location", "out/secret", FileProblem, "outside the model's folder: got out/secret"),
        ("location", "link", FileProblem, "outside the model's folder: got link"),
        ("location", "/etc/passwd", FileProblem, "relative to the model's folder: got /etc/passwd"),
        ("location", "C:\\w.bin", FileProblem, "relative to the model's folder"),
        ("location", "\\\\host\\w.bin", FileProblem, "relative to the model's folder"),
        ("location", "sub", FileProblem, "not in a regular file"),
        ("location", "pipe", FileProblem, "not in a regular file"),
        ("location", "hard.bin", FileProblem, "hard link"),
        ("location", "a" * 5000, FileProblem, "cannot read external data (file name too long)"),
        ("location", "", InvalidArgument, "does not say which file"),
        ("location", "a\0b", InvalidArgument, "does not say which file"),
        ("location", None, InvalidArgument, "does not say which file"),
        ("offset", "-4", InvalidArgument, "impossible offset of its external data: got '-4'"),
        ("offset", "1e3", InvalidArgument, "impossible offset"),
        ("offset", "9" * 30, InvalidArgument, "impossible offset"),
        ("offset", "4000", FileProblem, "is cut off: w.bin is too short: got 408 bytes, expected at least 4128"),
        ("length", "-1", InvalidArgument, "impossible length"),
        ("length", "4", InvalidArgument, "another length than its shape: got 4, expected 128"),
    ],
)
def test_external_data_that_is_not_there(
    key: str, text: str | None, kind: type[ConvfoldError], expected: str, tmp_path: Path
) -> None:
    folder, secret = tmp_path / "model", tmp_path / "secret"
    (folder / "sub").mkdir(parents=True)
    secret.write_bytes(external_data())
    (tmp_path / "w.bin").write_bytes(external_data())
    (folder / "link").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path)
    os.link(secret, folder / "hard.bin")
    os.mkfifo(folder / "pipe")
    assert expected in sentence(written(folder, _entry(key, text)), kind)


def test_external_data_that_was_cut(tmp_path: Path) -> None:
    path = written(tmp_path, external())
    os.truncate(tmp_path / "w.bin", 300)
    assert "is cut off: w.bin is too short: got 300 bytes" in sentence(path, FileProblem)


def test_external_data_named_twice_or_of_texts(tmp_path: Path) -> None:
    proto = external()
    proto.graph.initializer[0].external_data.add(key="location", value="w.bin")
    assert "gives its 'location' twice" in sentence(written(tmp_path, proto), InvalidArgument)
    proto = external()
    proto.graph.initializer[0].data_type = T.STRING
    assert "texts in another file" in sentence(written(tmp_path, proto), InvalidArgument)


def test_a_link_within_the_folder(tmp_path: Path) -> None:
    path = written(tmp_path, _entry("location", "link"))
    (tmp_path / "link").symlink_to("w.bin")
    assert "symbolic link, which onnx does not follow" in sentence(path, FileProblem)


def test_a_model_in_a_folder_reached_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    written(tmp_path / "real", external())
    (tmp_path / "linked").symlink_to("real")
    assert read(tmp_path / "linked" / "model.onnx").graph.initializers["w"].const_value is not None
