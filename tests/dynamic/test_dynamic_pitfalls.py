"""Faults met in public implementations of dynamic convolutions, each a row of its own: the short form of each."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from convfold import dynamic
from convfold.dynamic import TemperatureSchedule
from convfold.dynamic.execution import WAYS
from convfold.errors import InvalidArgument, NotFoldable
from support.dynamic import sample_by_sample

D = torch.float64
KINDS = ("CondConv2d", "DynamicConv2d", "DyNetConv2d")
WAYS_OF_3X3 = [way for way in WAYS if way != "product"]


def layer_of(kind, *arguments, **options):
    torch.manual_seed(0)
    return getattr(dynamic, kind)(*(arguments or (4, 6, 3)), **{"padding": 1, "dtype": D, **options})


def assert_equal(a, b):
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_pitfall_13_a_temperature_is_state_of_the_model():
    layer = layer_of("DynamicConv2d")
    x = torch.randn(3, 4, 6, 5, dtype=D)
    TemperatureSchedule(layer, start=30.0)
    hot = layer(x)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = layer_of("DynamicConv2d")
    fresh.load_state_dict(torch.load(file))
    for other in (fresh, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert float(other.router.temperature) == 30.0
        assert_equal(other(x), hot)
    layer.router.temperature.fill_(1.0)
    assert not torch.allclose(layer(x), hot)  # so the temperature mattered
    assert layer.to("meta").router.temperature.device.type == "meta"
    for moved in (copy.deepcopy(fresh).half(), fresh.double()):
        assert moved.router.temperature.dtype == moved.weight.dtype


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 5])
def test_pitfall_29_strides_and_batches(kind, stride, batch):
    """``view(batch, out, h, w)`` with the input's h and w is right at stride 1 alone."""
    layer = layer_of(kind, stride=stride)
    x = torch.randn(batch, 4, 8, 7, dtype=D)
    expected = sample_by_sample(layer, x, layer.routing(x))
    for way in WAYS_OF_3X3:
        layer.mode = way
        assert_equal(layer(x), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_pitfall_29_memory_formats(kind):
    """``.view`` refuses what is not contiguous; ``.reshape`` of a wrong axis order mixes channels silently."""
    layer = layer_of(kind)
    x = torch.randn(5, 4, 8, 6, dtype=D)
    expected = sample_by_sample(layer, x, layer.routing(x))
    strided = torch.randn(5, 8, 8, 12, dtype=D)[:, ::2, :, ::2].copy_(x)
    for way in WAYS_OF_3X3:
        layer.mode = way
        for same in (x.contiguous(memory_format=torch.channels_last), strided, x.transpose(2, 3).contiguous().mT):
            assert not same.is_contiguous()
            assert_equal(layer(same), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_pitfall_29_the_batch_of_the_example_is_not_in_the_program(kind):
    """Traced at 2, run at 3; ONNX files in full in test_export.py."""
    layer, x = layer_of(kind), torch.randn(3, 4, 6, 5, dtype=D)
    program = torch.export.export(layer, (x[:2],), dynamic_shapes=({0: torch.export.Dim("n")},))
    assert_equal(program.module()(x), layer(x))
    for way in ("grouped", "loop"):
        layer.mode = way
        with pytest.raises(InvalidArgument, match="the number of samples is in the structure"):
            torch.export.export(layer, (x[:2],), dynamic_shapes=({0: torch.export.Dim("n")},), strict=False)


@pytest.mark.parametrize("kind", ["CondConv", "DynamicConv", "DyNetConv"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_pitfall_30_outputs_vary_at_the_start_as_a_static_layers(kind, dims):
    """Experts drawn as ``randn`` without a scale make outputs sqrt(3 * fan_in) times too large.

    With coefficients pi that are nearly those of no preference, K independent experts have outputs of
    ``sum_k pi_k^2`` times the static layer's variance.
    """
    torch.manual_seed(0)
    width, experts = {1: 256, 2: 96, 3: 32}[dims], 4
    layer = getattr(dynamic, f"{kind}{dims}d")(width, width, 3, num_experts=experts, bias=False)
    static = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](width, width, 3, bias=False)
    x = torch.randn(4, width, *(9,) * dims)
    with torch.no_grad():
        share = experts * layer.router.neutral**2
        ratio = float(layer(x).var() / static(x).var()) / share
    assert 0.8 < ratio < 1.25


@pytest.mark.parametrize("kind", KINDS)
def test_pitfall_30_a_training_step_of_one_sample(kind):
    """A batch normalisation inside the attention cannot normalise one pooled sample."""
    layer = layer_of(kind).train()
    layer(torch.randn(1, 4, 6, 5, dtype=D)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in layer.parameters())
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in layer.modules())


def normed(layer):
    norm = nn.BatchNorm2d(6).double().eval()
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 3)
    x = torch.randn(3, 4, 6, 5, dtype=D)
    return norm, x, norm(layer(x))


class Low(dynamic.SigmoidRouter):
    """Coefficients of a sigmoid that add to 0.3 for every sample, whatever it is, in proportions that depend on it."""

    def coefficients(self, logits):
        sigmoid = torch.sigmoid(logits)
        return 0.3 * sigmoid / sigmoid.sum(-1, keepdim=True)


@pytest.mark.parametrize("bias", [True, False])
def test_pitfall_31_a_shift_is_not_multiplied_by_coefficients_that_add_to_less(bias):
    layer = layer_of("CondConv2d", bias=bias)
    layer.router = Low(4, 4, dtype=D)
    norm, x, expected = normed(layer)
    torch.testing.assert_close(layer.routing(x).sum(1), torch.full((3,), 0.3, dtype=D))
    folded = layer.absorbed(norm)
    assert_equal(folded(x), expected)
    # Folded as if coefficients added to one, 70 % of the shift is lost.
    wrong = copy.deepcopy(folded)
    wrong.bias = nn.Parameter((folded.static_bias + (0 if folded.bias is None else folded.bias)).expand(4, -1))
    wrong.static_bias = None
    lost = (expected - wrong(x)).abs().amax((0, 2, 3))
    torch.testing.assert_close(lost, 0.7 * folded.static_bias.abs(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_pitfall_31_every_router_takes_a_normalisation(kind):
    layer = layer_of(kind)
    norm, x, expected = normed(layer)
    folded = layer.absorbed(norm)
    assert_equal(folded(x), expected)
    assert (folded.static_bias is None) == layer.router.sums_to_one
    with pytest.raises(NotFoldable):
        layer.absorbed(norm.train())
