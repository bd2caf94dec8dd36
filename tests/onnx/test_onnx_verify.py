"""Two ONNX files compared in ONNX Runtime and against float64."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto as T
from onnx import helper

from convfold.errors import InvalidArgument, NotEqual
from convfold.verify.onnx import files, run_file, verify_files
from convfold.verify.onnx.inputs import random_inputs
from support.onnx_seeds import model, value

RNG = np.random.default_rng(3)
SIZES = [{"x": (1, 3, 8, 8)}, {"x": (2, 3, 9, 13)}]


def _normal(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RNG.standard_normal(shape).astype(np.float32)


def _save(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


W, SCALE, BIAS, MEAN = _normal(6, 3, 3, 3), _normal(6), _normal(6), _normal(6)
VARIANCE = np.abs(_normal(6)) + 0.5


def _before() -> onnx.ModelProto:
    weights = {"w": W, "scale": SCALE, "bias": BIAS, "mean": MEAN, "var": VARIANCE}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "bias", "mean", "var"], ["y"]),
    ]
    return model(nodes, [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 6, "p", "q"])], weights)


def _after(change: float = 0.0, at: int = 0) -> onnx.ModelProto:
    """The folded model, one weight of it changed in proportion."""
    factor = SCALE.astype(np.float64) / np.sqrt(VARIANCE.astype(np.float64) + np.float32(1e-5))
    kernel = W * factor[:, None, None, None]
    kernel.reshape(-1)[at] *= 1 + change
    bias = BIAS - MEAN * factor
    weights = {"w": kernel.astype(np.float32), "b": bias.astype(np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1])]
    return model(nodes, [value("x", ["n", 3, "h", "w"])], [value("y", ["n", 6, "p", "q"])], weights)


def _pair(tmp_path: Path, a: onnx.ModelProto, b: onnx.ModelProto) -> tuple[Path, Path]:
    return _save(tmp_path / "a.onnx", a), _save(tmp_path / "b.onnx", b)


# Verdicts


def test_a_folded_file_is_equal(tmp_path: Path) -> None:
    found = verify_files(*_pair(tmp_path, _before(), _after()), SIZES)
    assert found
    assert found.reference
    assert found.skipped == 0
    assert [probe.shapes for probe in found.probes] == [((1, 3, 8, 8),), ((2, 3, 9, 13),)]
    assert 0 < found.error < 1e-6 < found.bound < 1e-4
    assert found.l2_ratio is not None
    assert 0.3 < found.l2_ratio < 3
    assert "L2 error against float64" in str(found)
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["equal"] is True
    assert plain["l2_ratio"] == found.l2_ratio
    assert plain["probes"][0]["reference"] is True
    assert plain["dtype"] == "float32"


def test_the_bound_is_the_law(tmp_path: Path) -> None:
    """Twice the root of 27 products times the original's own error, both relative to the largest output."""
    a, b = _pair(tmp_path, _before(), _after())
    [probe] = verify_files(a, b, SIZES[:1]).probes
    x = random_inputs(ir.load(a), SIZES[0], 0)["x"]
    wide = np.zeros((1, 6, 8, 8))
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (1, 1), (1, 1)])
    for i, j in np.ndindex(8, 8):
        wide[0, :, i, j] = np.tensordot(W.astype(np.float64), padded[0, :, i : i + 3, j : j + 3], 3)
    factor = SCALE.astype(np.float64) / np.sqrt(VARIANCE.astype(np.float64) + np.float64(np.float32(1e-5)))
    wide = (wide - MEAN[:, None, None]) * factor[:, None, None] + BIAS[:, None, None]
    largest = np.abs(wide).max()
    own = np.abs(run_file(a, {"x": x})["y"] - wide).max() / largest
    other = run_file(b, {"x": x})["y"]
    assert probe.own_error == pytest.approx(own, rel=1e-6)
    assert probe.error == pytest.approx(np.abs(other - wide).max() / largest, rel=1e-6)
    assert probe.bound == pytest.approx(2 * np.sqrt(27) * max(own, np.finfo(np.float32).eps), rel=1e-6)
    assert probe.l2 == pytest.approx(np.linalg.norm(other - wide) / np.linalg.norm(wide), rel=1e-6)


@pytest.mark.parametrize("change", [1e-3, 1e-2, 1.0])
def test_one_weight_that_is_off_is_found(change: float, tmp_path: Path) -> None:
    at = int(np.abs(_before_kernel()).argmax())
    found = verify_files(*_pair(tmp_path, _before(), _after(change, at)), SIZES)
    assert not found
    assert "NOT EQUAL" in str(found)
    assert found.l2_ratio is not None
    assert found.l2_ratio > 10


def _before_kernel() -> Any:
    return W * (SCALE / np.sqrt(VARIANCE))[:, None, None, None]


def _with_gelu(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Behind an operator of ONNX Runtime's own, which has no float64 reference."""
    proto.graph.node[-1].output[0] = "z"
    proto.graph.node.append(helper.make_node("Gelu", ["z"], ["y"], domain="com.microsoft"))
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto


def test_without_a_reference_the_files_are_compared_with_each_other(tmp_path: Path) -> None:
    found = verify_files(*_pair(tmp_path, _with_gelu(_before()), _with_gelu(_after())), SIZES)
    assert found
    assert not found.reference
    assert found.l2_ratio is None
    assert 0 < found.error < found.bound < 1e-4
    assert "no float64 reference" in str(found)
    json.dumps(found.to_dict())
    at = int(np.abs(_before_kernel()).argmax())
    assert not verify_files(*_pair(tmp_path, _with_gelu(_before()), _with_gelu(_after(1e-3, at))), SIZES)


def test_large_files_have_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("evaluated")

    monkeypatch.setattr(files, "LARGE", 100)
    monkeypatch.setattr(files, "evaluate", never)
    found = verify_files(*_pair(tmp_path, _before(), _after()), SIZES)
    assert found
    assert not found.reference


@pytest.mark.parametrize("wrong", ["value", "shape", "nan"])
def test_a_reference_that_reads_an_operator_otherwise_is_not_used(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its error would be taken for the file's own, and let any other file pass."""
    evaluate = files.evaluate

    def other(*given: Any) -> dict[str, Any]:
        found = evaluate(*given)["y"]
        return {"y": found * 1.001 if wrong == "value" else found[:, :, 1:] if wrong == "shape" else found * np.nan}

    monkeypatch.setattr(files, "evaluate", other)
    found = verify_files(*_pair(tmp_path, _before(), _after()), SIZES)
    assert found
    assert not found.reference
    at = int(np.abs(_before_kernel()).argmax())
    assert not verify_files(*_pair(tmp_path, _before(), _after(1e-3, at)), SIZES)


def test_half_precision_is_held_to_its_own_rounding(tmp_path: Path) -> None:
    def half(proto: onnx.ModelProto) -> onnx.ModelProto:
        proto.graph.node[0].input[0] = "h"
        last = proto.graph.node[-1]
        last.output[0] = "g"
        for tensor in proto.graph.initializer:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
        proto.graph.node.insert(0, helper.make_node("Cast", ["x"], ["h"], to=T.FLOAT16))
        proto.graph.node.append(helper.make_node("Cast", ["g"], ["y"], to=T.FLOAT))
        return proto

    found = verify_files(*_pair(tmp_path, half(_before()), half(_after())), SIZES)
    assert found
    assert 1e-5 < found.error < found.bound < 0.1


# Indices and masks


def _best(shift: Sequence[float]) -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["x", "s"], ["a"]), helper.make_node("ArgMax", ["a"], ["y"], axis=1, keepdims=0)]
    weights = {"s": np.array(shift, np.float32)}
    return model(nodes, [value("x", ["n", 3])], [value("y", ["n"], T.INT64)], weights)


def test_indices_must_be_the_same(tmp_path: Path) -> None:
    sizes = [{"x": (400, 3)}]
    assert verify_files(*_pair(tmp_path, _best([0, 0, 0]), _best([0, 0, 0])), sizes)
    found = verify_files(*_pair(tmp_path, _best([0, 0, 0]), _best([0, 0, 0.1])), sizes)
    assert not found
    assert 0.005 < found.error < 0.1
    assert found.bound == 0


def test_indices_that_hang_on_a_rounding_are_left_open(tmp_path: Path) -> None:
    """Where the inputs are the same number, roundings decide whether their difference is positive."""

    def near(sign: float) -> onnx.ModelProto:
        nodes = [
            helper.make_node("Sub", ["x", "y0"], ["d"]),
            helper.make_node("Add", ["d", "s"], ["e"]),
            helper.make_node("Greater", ["e", "zero"], ["y"]),
        ]
        weights = {"zero": np.float32([0]), "s": np.float32([sign * 1e-9])}
        inputs = [value("x", ["n"]), value("y0", ["n"])]
        return model(nodes, inputs, [value("y", ["n"], T.BOOL)], weights)

    a, b = _pair(tmp_path, near(1), near(-1))
    same = {"x": np.float32([1.5] * 40), "y0": np.float32([1.5] * 40)}
    assert (run_file(a, same)["y"] != run_file(b, same)["y"]).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "random_inputs", lambda *_: same)
        found = verify_files(a, b, [{"x": (40,), "y0": (40,)}])
    assert found.error < 0.1, "most of them turn when the inputs are moved by a rounding"


# Sizes


def test_sizes_that_the_file_does_not_take_are_skipped(tmp_path: Path) -> None:
    sizes = [{"x": (1, 4, 8, 8)}, *SIZES, {"x": (1, 3, 8)}]
    found = verify_files(*_pair(tmp_path, _before(), _after()), sizes)
    assert found
    assert found.skipped == 2
    assert len(found.probes) == 2


def test_no_size_that_the_file_takes(tmp_path: Path) -> None:
    a, b = _pair(tmp_path, _before(), _after())
    with pytest.raises(InvalidArgument, match=r"a\.onnx: ONNX Runtime does not run the model on these inputs"):
        verify_files(a, b, [{"x": (1, 4, 8, 8)}])
    with pytest.raises(InvalidArgument, match="sizes: at least one size is needed"):
        verify_files(a, b, [])
    with pytest.raises(InvalidArgument, match="'x': no shape is given for this input"):
        verify_files(a, b, [{}])
    with pytest.raises(InvalidArgument, match="'x': no input of this shape can be made up"):
        verify_files(a, b, [{"x": (2**20, 2**20, 1, 1)}])


# Form


def _renamed(proto: onnx.ModelProto, **changes: Any) -> onnx.ModelProto:
    for info in (*proto.graph.input, *proto.graph.output):
        if info.name in changes:
            info.CopyFrom(changes[info.name])
    return proto


def test_files_of_another_form(tmp_path: Path) -> None:
    def refusal(b: onnx.ModelProto, sizes: Sequence[dict[str, tuple[int, ...]]] = SIZES) -> str:
        with pytest.raises(NotEqual) as raised:
            verify_files(*_pair(tmp_path, _before(), b), sizes)
        return str(raised.value)

    other = _after()
    other.graph.node[0].output[0] = other.graph.output[0].name = "z"
    assert "b.onnx: the outputs have other names: got ['z'], expected ['y']" in refusal(other)
    other = _after()
    other.graph.node[0].output[0] = "z"
    other.graph.node.append(helper.make_node("Cast", ["z"], ["y"], to=T.DOUBLE))
    other.graph.output[0].type.tensor_type.elem_type = T.DOUBLE
    assert "the outputs have other types: got ['tensor(double)']" in refusal(other)
    fixed = _renamed(_after(), x=value("x", [1, 3, 8, 8]))
    assert "input 'x' has another shape: got (1, 3, 8, 8)" in refusal(fixed)
    padded = _after()
    padded.graph.node[0].attribute[0].ints[:] = [0, 0, 0, 0]
    assert "output 'y' has another form: got float32[1, 6, 6, 6], expected float32[1, 6, 8, 8]" in refusal(padded)
    picky = _after()
    picky.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 6, 8, 8]), "shape"))
    picky.graph.node[0].output[0] = "z"
    picky.graph.node.append(helper.make_node("Reshape", ["z", "shape"], ["y"]))
    assert "the second file does not run where the first does: got [[2, 3, 9, 13]]" in refusal(picky)


def test_sessions_are_opened_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    seen = []

    class Counted(onnxruntime.InferenceSession):
        def __init__(self, *given: Any, **named: Any) -> None:
            gc.collect()
            seen.append(len(alive))
            super().__init__(*given, **named)
            alive.add(self)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Counted)
    verify_files(*_pair(tmp_path, _with_gelu(_before()), _with_gelu(_after())), SIZES)
    assert seen == [0, 0, 0]
