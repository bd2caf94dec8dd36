"""Networks written by both of torch's exporters and folded: as few convolutions as the fold of the module has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

import convfold
from convfold.studies.bench.onnx import EXPORTERS, OnnxSetting, bench_onnx, broken
from convfold.studies.bench.zoo.models import TwoDBB

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
MODELS = {
    "two_dbb": "convfold.studies.bench.zoo.models:TwoDBB",
    "dbb": "convfold.studies.bench.onnx:dbb",
    "acnet": "convfold.studies.bench.onnx:acnet",
    "expandnet": "convfold.studies.bench.onnx:expandnet",
}
# Convolutions that are needed, and that a fold has to reach.
NEEDED = {"two_dbb": 3, "dbb": 5, "acnet": 5, "expandnet": 5}


@pytest.mark.parametrize("model", MODELS)
def test_both_exporters_files_fold_as_the_module_does(model: str, tmp_path: Path) -> None:
    results = bench_onnx((MODELS[model],), OnnxSetting(latency=False), tmp_path, lambda name, result: None)
    assert [name.split()[1] for name in results] == list(EXPORTERS)
    for result in results.values():
        assert not broken(result)
        folded = result["nodes"]["folded"]
        assert folded["Conv"] == result["module_convolutions"] == NEEDED[model]
        assert folded["BatchNormalization"] == 0
        # Biases before a padding differ at the border: each is one addition.
        assert folded["Add"] == (2 if model == "two_dbb" else 0)
        assert result["error"] <= result["bound"]


def test_a_module_and_its_file_fold_alike_in_what_they_compute(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    model, x = TwoDBB(8).eval(), torch.randn(2, 3, 24, 24)
    torch.onnx.export(model, (x,), str(tmp_path / "given.onnx"), dynamo=False)
    convfold.fold_onnx(tmp_path / "given.onnx", tmp_path / "folded.onnx")
    folded = convfold.fold(model, x)
    session = runtime.InferenceSession(str(tmp_path / "folded.onnx"), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(y), folded(x), rtol=1e-4, atol=1e-5)
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "folded.onnx").graph.node)
    assert kinds["Conv"] == sum(isinstance(module, nn.Conv2d) for module in folded.modules())
