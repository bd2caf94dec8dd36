"""Runs in ONNX Runtime, and the inputs made up for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto as T
from onnx import helper

from convfold.errors import FileProblem, InvalidArgument
from convfold.verify.onnx import run_file, session, verify_files
from convfold.verify.onnx.inputs import bounds, moved, random_inputs
from convfold.verify.onnx.judge import longest_reduction
from support.onnx_reference import normal
from support.onnx_seeds import embedding, external, external_data, head, model, value


def _save(path: Path, proto: Any) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def test_the_range_of_inputs_is_found_behind_what_carries_them(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["i"], ["c"], to=T.INT64),
        helper.make_node("Unsqueeze", ["c", "axes"], ["u"]),
        helper.make_node("Gather", ["t", "u"], ["g"], axis=1),
        helper.make_node("Gather", ["s", "c"], ["h"]),
        helper.make_node("Cast", ["mask"], ["m"], to=T.FLOAT),
        helper.make_node("Cast", ["image"], ["p"], to=T.FLOAT),
        helper.make_node("Cast", ["flag"], ["f"], to=T.FLOAT),
    ]
    weights = {"t": normal(3, 7), "s": normal(5, 2), "axes": np.array([0])}
    inputs = [
        value("i", ["n"], T.INT32), value("mask", ["n"], T.INT64), value("image", [2, 9], T.UINT8),
        value("flag", ["n"], T.BOOL),
    ]  # fmt: skip
    outputs = [value(name, None) for name in ("g", "h", "m", "p", "f")]
    found = ir.from_proto(model(nodes, inputs, outputs, weights))
    assert bounds(found) == {"i": 5, "mask": 2, "image": 128, "flag": 2}
    drawn = random_inputs(found, {"i": (60,), "mask": (60,), "image": (2, 9), "flag": (60,)}, 1)
    assert drawn["i"].dtype == np.int32
    assert set(drawn["i"]) == set(range(5))
    assert set(drawn["mask"]) == {0, 1}
    assert drawn["image"].max() > 60
    assert drawn["flag"].dtype == np.bool_


def test_inputs_are_moved_by_about_one_rounding() -> None:
    for kind in (np.float32, np.float16, ml_dtypes.bfloat16, np.float64):
        x = np.array([1.0, -3.0, 0.0, 1000.0]).astype(kind)
        got = moved({"x": x, "i": np.array([3])}, 0)
        assert got["x"].dtype == x.dtype
        unit = float(ml_dtypes.finfo(kind).eps)
        relative = np.abs(got["x"].astype(np.float64) - x.astype(np.float64)) / np.maximum(np.abs(x.astype(float)), 1)
        assert (relative <= 2 * unit).all()
        assert relative.max() >= unit / 2
        assert got["i"].tolist() == [3]


def test_inputs_of_whole_numbers_are_indices_that_exist(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.onnx", embedding())
    found = verify_files(path, path, [{"ids": (4, 50)}])
    assert found
    table = ir.load(path)
    assert bounds(table) == {"ids": 11}
    ids = random_inputs(table, {"ids": (4, 50)}, 0)["ids"]
    assert ids.dtype == np.int64
    assert set(ids.ravel()) == set(range(11))


def test_inputs_that_cannot_be_made_up(tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = _save(tmp_path / "a.onnx", model(nodes, [value("x", [1], T.STRING)], [value("y", [1], T.STRING)]))
    with pytest.raises(InvalidArgument, match="'x': inputs of this type are not made up: got STRING"):
        verify_files(path, path, [{"x": (1,)}])


def test_a_file_or_its_bytes_are_run(tmp_path: Path) -> None:
    x = normal(1, 4, 6, 6)
    expected = run_file(head().SerializeToString(), {"x": x})["y"]
    (tmp_path / "w.bin").write_bytes(external_data())
    path = _save(tmp_path / "model.onnx", external())
    np.testing.assert_array_equal(run_file(path, {"x": x})["y"], expected)
    assert verify_files(path, path, [{"x": (2, 4, 6, 6)}]).reference


def test_what_the_runtime_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileProblem, match=r"none\.onnx: no such file"):
        run_file(tmp_path / "none.onnx", {})
    with pytest.raises(InvalidArgument, match="the model: ONNX Runtime refuses the model: got"):
        run_file(b"nonsense", {})
    with pytest.raises(InvalidArgument, match="ONNX Runtime does not run the model on these inputs: got"):
        run_file(head().SerializeToString(), {"x": normal(1, 5, 6, 6)})
    monkeypatch.setattr(session, "find_spec", lambda _: None)
    with pytest.raises(InvalidArgument, match=r"ONNX Runtime is not installed\. pip install"):
        run_file(head().SerializeToString(), {})


def test_a_loop_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go2"]), helper.make_node("Sin", ["v"], ["v2"])],
        "body",
        [value("i", [], T.INT64), value("go", [], T.BOOL), value("v", [2])],
        [value("go2", [], T.BOOL), value("v2", [2])],
    )
    loop = helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)
    proto = model([loop], [value("x", [2])], [value("y", [2])], {"yes": np.array(True)})
    monkeypatch.setattr(session, "SECONDS", 0.5)
    with pytest.raises(InvalidArgument, match=r"did not come to an end: got 0\.5 seconds"):
        run_file(proto.SerializeToString(), {"x": normal(2)})


@pytest.mark.parametrize(
    ("op", "shape", "attributes", "expected"),
    [
        ("Conv", (8, 2, 3, 5), {"group": 2}, 30),
        ("ConvTranspose", (8, 3, 2, 2), {"group": 2}, 16),
        ("Gemm", (7, 3), {}, 7),
        ("Gemm", (7, 3), {"transB": 1}, 3),
        ("MatMul", (2, 9, 4), {}, 9),
        ("Add", (5, 5), {}, 1),
    ],
)
def test_longest_reduction(op: str, shape: tuple[int, ...], attributes: dict[str, Any], expected: int) -> None:
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    proto = model([node], [value("x", None)], [value("y", None)], {"w": np.zeros(shape, np.float32)})
    assert longest_reduction(ir.from_proto(proto)) == expected
