"""ONNX files with a free batch, run in ONNX Runtime at batches other than the one they were written at."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convfold import dynamic
from convfold.errors import InvalidArgument

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
KINDS = ("CondConv", "DynamicConv", "DyNetConv")
BATCHES = (1, 2, 7)


class Layers(nn.Module):
    """One layer of each sort on the same input: an export takes seconds whatever is in it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        make = getattr(dynamic, f"{kind}2d")
        self.layers = nn.ModuleDict(
            {
                "dense": make(8, 6, 3, padding=1),
                "grouped": make(8, 6, 3, groups=2, bias=False),
                "depthwise": make(8, 16, 3, padding=1, groups=8),
                "pointwise": make(8, 6, 1),
                "pointwise_strided_grouped": make(8, 6, 1, stride=2, groups=2),
                "strided_dilated": make(8, 6, (3, 2), stride=2, padding=2, dilation=2),
                "reflected": make(8, 6, 3, padding=1, padding_mode="reflect"),
                "features": make(8, 6, 3, padding=1),
            }
        )
        self.layers["features"].mode = "feature"
        linear = {"CondConv": dynamic.CondLinear, "DynamicConv": dynamic.DynamicLinear}.get(kind)
        self.linear = None if linear is None else linear(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs = tuple(layer(x) for layer in self.layers.values())
        return outputs if self.linear is None else (*outputs, self.linear(x.movedim(1, -1)))


def relative(y: Tensor, truth: Tensor) -> float:
    return float((y.double() - truth).abs().max() / truth.abs().max())


def check(model: nn.Module, path: Any) -> None:
    """Errors against float64 are held to torch's own in float32 times ``2 sqrt(L)``, L products in a sum."""
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    exact = copy.deepcopy(model).double()
    bound = 2 * (8 * 9) ** 0.5
    for batch in BATCHES:
        x = torch.randn(batch, 8, 9, 8)
        with torch.no_grad():
            truths, owns = exact(x.double()), model(x)
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert len(found) == len(truths)
        for y, own, truth in zip(map(torch.from_numpy, found), owns, truths, strict=True):
            assert y.shape == truth.shape
            assert relative(y, truth) <= bound * max(relative(own, truth), torch.finfo(torch.float32).eps)


def model_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    model = Layers(kind).eval()
    for parameter in model.parameters():
        parameter.data.normal_()
    return model


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_exported_with_a_free_batch(kind, tmp_path):
    model, path = model_of(kind), tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, (torch.randn(2, 8, 9, 8),), dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False
        )
    program.save(str(path))
    check(model, path)
    # A coefficient that is wrong is seen.
    model.layers["dense"].weight.data[0, 0] += 1e-3
    with pytest.raises(AssertionError):
        check(model, path)


@pytest.mark.parametrize("kind", KINDS)
def test_traced_with_a_free_batch(kind, tmp_path):
    """The older exporter, which records one run: sizes are recorded as sizes only while they are not made integers."""
    model, path = model_of(kind), tmp_path / "model.onnx"
    axes = {"x": {0: "batch"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (torch.randn(2, 8, 9, 8),), str(path), dynamo=False, input_names=["x"], dynamic_axes=axes
        )
    check(model, path)


@pytest.mark.parametrize("mode", ["grouped", "whole", "loop"])
def test_a_way_with_a_fixed_batch_says_so_in_both_exporters(mode, tmp_path):
    layer, x = dynamic.CondConv2d(4, 4, 3), torch.randn(2, 4, 8, 8)
    layer.mode = mode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InvalidArgument, match=r'cannot be exported.*layer.mode = "auto"'):
            torch.onnx.export(layer, (x,), str(tmp_path / "a.onnx"), dynamo=False)
        with pytest.raises(torch.onnx.OnnxExporterError) as caught:
            torch.onnx.export(layer, (x,), dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False)
    assert isinstance(caught.value.__cause__, InvalidArgument)
