"""Random ONNX files, folded: the fast share of ``python -m tests.deep_onnx``; and that the check can fail."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from convfold.transform.fold_onnx import FoldedFile, fold_onnx
from support import onnx_random_check
from support.onnx_random_builder import OPSETS
from support.onnx_random_check import check_file
from support.onnx_random_graphs import RandomFile, random_file
from support.onnx_random_job import TWICE, figures_of_files
from support.random_figures import Figures, Mismatch

SHARE = 40
# Among the first files there must be all of these; a generator that lost one would still pass everything.
KINDS = {
    *("Conv dense 2d", "Conv depthwise 2d", "Conv grouped 2d", "Conv dense 1d", "Conv dense 3d", "Conv SAME_UPPER 2d"),
    *("Conv SAME_LOWER 2d", "Conv VALID 2d", "ConvTranspose pads", "ConvTranspose none", "ConvTranspose auto"),
    *("ConvTranspose shape", "Gemm", "MatMul", "BatchNormalization", "Add x, const", "Add const, x", "Sub x, const"),
    *("Sub const, x", "Mul x, const", "Mul const, x", "Div x, const", "Sum", "Concat", "Split", "Slice", "Gather"),
    *("Transpose", "Reshape", "shuffle", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Pad constant"),
    *("Pad reflect", "Pad edge", "Identity", "Dropout", "Cast", "Neg", "Flatten", "Squeeze", "Unsqueeze", "Resize"),
    *("Upsample", "DepthToSpace", "SpaceToDepth", "Relu", "Clip", "Sigmoid", "HardSwish", "PRelu", "Min", "Softmax"),
    *("MaxPool", "Constant", "ConstantOfShape", "Shape", "If", "float32", "float64", "float16", "open sizes"),
    *("fixed sizes", "several outputs", "IR 3", *(f"opset {opset}" for opset in OPSETS)),
}


@pytest.mark.parametrize("seed", range(SHARE))
def test_a_random_file_is_folded(seed: int, tmp_path: Path) -> None:
    check_file(random_file(seed), tmp_path, twice=seed % TWICE == 0)


def test_a_seed_is_a_file() -> None:
    for seed in range(10):
        assert random_file(seed).model == random_file(seed).model
    assert random_file(1).model != random_file(2).model


def test_the_generator_draws_every_kind() -> None:
    files = [random_file(seed) for seed in range(180)]
    labels = {label for file in files for label in file.labels}
    assert labels >= KINDS
    assert sum(file.others is not None for file in files) > 30
    assert any(model_names(file.model.graph.initializer) & model_names(file.model.graph.input) for file in files)


def model_names(listed: Any) -> set[str]:
    return {entry.name for entry in listed}


def small() -> RandomFile:
    """A file that is small enough to be spoilt."""
    return next(f for f in map(random_file, range(60)) if "float32" in f.labels and "fixed sizes" in f.labels)


def spoilt(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Have the check fold, and `change` what came of it: the file, the outcome, or the original."""

    def fold(path: Path, out: Path, shapes: Any) -> FoldedFile:
        found = fold_onnx(path, out, shapes)
        model = onnx.load(out)
        found = change(model, found, path) or found
        onnx.save(model, out)
        return found

    monkeypatch.setattr(onnx_random_check, "fold_onnx", fold)


def _disturb(model: onnx.ModelProto, found: FoldedFile, path: Path) -> None:
    """Behind the first output, a factor that is off by less than a thousandth."""
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["spoilt" if one == name else one for one in node.output]
        node.input[:] = ["spoilt" if one == name else one for one in node.input]
    model.graph.initializer.append(numpy_helper.from_array(np.array(1.0005, np.float32), "factor"))
    model.graph.node.append(helper.make_node("Mul", ["spoilt", "factor"], [name]))


def _dearer(model: onnx.ModelProto, found: FoldedFile, path: Path) -> Any:
    after = found.plan.before._replace(operators=found.plan.before.operators + 1)

    class Dearer:
        plan = type("Plan", (), {"before": found.plan.before, "after": after, "refusals": ()})
        certificate = found.certificate

    return Dearer


def _rolled_back(model: onnx.ModelProto, found: FoldedFile, path: Path) -> Any:
    refusal = type("Refusal", (), {"operator": "Conv", "hint": "Please report this.", "__str__": lambda _: "it"})()

    class Rolled:
        plan = type("Plan", (), {"refusals": (refusal,)})
        certificate = found.certificate

    return Rolled


def _not_equal(model: onnx.ModelProto, found: FoldedFile, path: Path) -> FoldedFile:
    return replace(found, certificate=False)  # type: ignore[arg-type]


def _touch(model: onnx.ModelProto, found: FoldedFile, path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _rename(model: onnx.ModelProto, found: FoldedFile, path: Path) -> None:
    model.graph.output[0].doc_string = "other"


def _other_inputs(model: onnx.ModelProto, found: FoldedFile, path: Path) -> None:
    model.graph.input[0].doc_string = "other"


def _other_author(model: onnx.ModelProto, found: FoldedFile, path: Path) -> None:
    model.producer_name = "another"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_disturb, "output .*: error"),
        (_dearer, "more operators"),
        (_rolled_back, "rolled back: it"),
        (_not_equal, "the certificate is not equal"),
        (_touch, "the file was changed"),
        (_rename, "the graph's output was changed"),
        (_other_inputs, "the graph's inputs were changed"),
        (_other_author, "producer_name was changed"),
    ],
)
def test_the_check_sees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: Any, sentence: str) -> None:
    spoilt(monkeypatch, change)
    with pytest.raises(Mismatch, match=sentence):
        check_file(small(), tmp_path)


def test_figures_add_up_and_most_files_are_cheaper() -> None:
    whole, parts = figures_of_files(range(4)), Figures()
    for seeds in (range(1), range(1, 4)):
        parts.join(Figures.from_dict(figures_of_files(seeds).to_dict()))
    assert parts.to_dict() == whole.to_dict()
    assert whole.graphs == 4
    assert whole.failures == {}
    assert whole.cheaper["any"] >= 2
