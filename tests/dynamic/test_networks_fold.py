"""The reference networks fold, shared routers or not, and their files run at any batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import convfold
from convfold.dynamic import DynamicLayer
from convfold.dynamic.networks.kinds import KINDS
from support.dynamic_networks import OWN, TINY, drawn

D = torch.float64
FOLDED = [*(("resnet", kind) for kind in KINDS), ("mobilenet_v1", "condconv"), ("mobilenet_v2", "condconv")]
FOLDED += [
    ("mobilenet_v2", "dynet"),
    ("mobilenet_v3", "se"),
    ("mobilenet_v3", "dynet"),
    *((name, "dynet") for name in OWN),
]


def count(net: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in net.modules())


@pytest.mark.parametrize(("name", "kind"), FOLDED)
def test_every_normalisation_folds_and_the_function_stays(name, kind):
    net = drawn(lambda: (TINY | OWN)[name](kind))
    x = torch.randn(3, 1, 8, 8, dtype=D, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net(x)
        scale = float((expected - expected.mean(0)).abs().max())
        assert scale > 1e-5 * float(expected.abs().max()), "an output that the input moves"
        folded = convfold.fold(net, x)
        assert float((folded(x) - expected).abs().max()) <= 1e-12 * float(expected.abs().max())
    assert count(folded, nn.BatchNorm2d) == 0
    assert count(folded, DynamicLayer) == (0 if kind == "uniform" else count(net, DynamicLayer))
    assert convfold.verify(net, folded, x)
    # Another shape of batch than the one it was folded with.
    with torch.no_grad():
        one = torch.randn(1, 1, 8, 8, dtype=D)
        assert float((folded(one) - net(one)).abs().max()) <= 1e-12 * float(net(one).abs().max())


@pytest.mark.parametrize(("name", "kind"), [("mobilenet_v2", "dynet"), ("resnet", "condconv")])
def test_an_onnx_file_has_a_free_batch(name, kind, tmp_path: Path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exact = drawn(lambda: TINY[name](kind))
    net = drawn(lambda: TINY[name](kind)).float()
    path = str(tmp_path / "net.onnx")
    written = torch.onnx.export(
        net, (torch.randn(2, 1, 8, 8),), dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False
    )
    written.save(path)
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    longest = max(module.weight[0].numel() for module in net.modules() if isinstance(module, nn.Linear | DynamicLayer))
    for batch in (1, 2, 7):
        x = torch.randn(batch, 1, 8, 8)
        with torch.no_grad():
            truth, own = exact(x.double()), net(x)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        scale = float(truth.abs().max())
        # Two orders of summation in float32: as far from the truth as torch is, within the square root of the length.
        unit = max(float((own.double() - truth).abs().max()) / scale, torch.finfo(torch.float32).eps)
        assert float((torch.from_numpy(found).double() - truth).abs().max()) / scale <= 2 * longest**0.5 * unit
