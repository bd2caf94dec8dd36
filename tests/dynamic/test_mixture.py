"""Every way of execution is the definition: values and gradients against a loop over samples and experts."""

from __future__ import annotations

import pytest
import torch

from convfold import dynamic
from convfold.dynamic.execution import WAYS
from convfold.errors import InvalidArgument
from support.dynamic import random_layer, sample_by_sample

SEEDS = 200


def _ways(layer):
    return [way for way in WAYS if way != "product" or all(k == 1 for k in layer.kernel_size)]


def _gradients(layer, x, y):
    direction = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    return torch.autograd.grad((y * direction).sum(), [x, *layer.parameters()], allow_unused=True)


def _distance(a, b):
    a, b = a.detach(), b.detach()
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-300)) if b.numel() else 0.0


@pytest.mark.parametrize("start", range(0, SEEDS, 25))
def test_values_and_gradients_are_the_definitions(start):
    for seed in range(start, start + 25):
        layer, x = random_layer(seed)
        x.requires_grad_()
        expected = sample_by_sample(layer, x, layer.routing(x))
        wanted = _gradients(layer, x, expected)
        for way in (*_ways(layer), "auto", "kernel", "feature"):
            layer.mode = way
            y = layer(x)
            assert y.shape == expected.shape
            assert _distance(y, expected) <= 1e-12, (seed, way)
            for got, want in zip(_gradients(layer, x, y), wanted, strict=True):
                assert (got is None) == (want is None), (seed, way)
                # A gradient may vanish by itself (softmax over one expert): it is held to the largest of them.
                scale = max(float(w.abs().max()) for w in wanted if w is not None)
                assert got is None or float((got - want).abs().max()) <= 1e-10 * scale, (seed, way)


def test_a_wrong_coefficient_is_seen():
    layer, x = random_layer(3, "DynamicConv")
    routing = layer.routing(x)
    wrong = routing.clone()
    wrong[-1, 0] += 1e-3
    assert _distance(layer(x, wrong), sample_by_sample(layer, x, routing)) > 1e-6


@pytest.mark.parametrize("kind", ["CondLinear", "DynamicLinear"])
@pytest.mark.parametrize("shape", [(3, 5), (3, 7, 5), (2, 2, 3, 5)])
def test_a_fully_connected_layer_mixes_one_matrix_per_sample(kind, shape):
    layer = getattr(dynamic, kind)(5, 6, dtype=torch.float64)
    x = torch.randn(shape, dtype=torch.float64)
    routing = layer.routing(x)
    weight = torch.einsum("nk,koi->noi", routing, layer.weight)
    bias = routing @ layer.bias
    expected = torch.stack([v @ w.T + b for v, w, b in zip(x, weight, bias, strict=True)])
    for mode in ("kernel", "feature", "auto", "product", "patches", "grouped", "loop"):
        layer.mode = mode
        torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_a_sample_without_a_batch():
    layer, x = random_layer(5)
    torch.testing.assert_close(layer(x[0]), layer(x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda layer, x: layer(x, torch.rand(x.shape[0], layer.num_experts + 1)), "routing does not fit the experts"),
        (lambda layer, x: layer(x, torch.rand(x.shape[0] + 1, layer.num_experts)), "routing does not fit the experts"),
        (lambda layer, x: layer(x[:0]), "the batch is empty"),
        (lambda layer, x: setattr(layer, "mode", "fast"), "mode is unknown"),
        (lambda layer, x: dynamic.CondConv2d(4, 4, 3, num_experts=0), "at least one expert"),
        (lambda layer, x: dynamic.CondConv2d(4, 4, 3, padding_mode="mirror"), "padding_mode is unknown"),
        (lambda layer, x: dynamic.CondConv2d(4, 4, 3, groups=3), "nearest legal"),
        (lambda layer, x: dynamic.CondConv2d(4, 4, 3, router=None)(torch.rand(1, 4, 8, 8)), "no router of its own"),
        (lambda layer, x: dynamic.DynamicConv2d(4, 4, 3, temperature=0.0), "a temperature divides"),
        (lambda layer, x: dynamic.DynamicConv2d(4, 4, 3, reduction=0), "squeeze divides"),
        (lambda layer, x: dynamic.SharedRouter(4, (), 4), "at least one layer"),
        (lambda layer, x: dynamic.SigmoidRouter(4, 0), "at least one expert"),
    ],
)
def test_bad_input_is_a_sentence(change, sentence):
    layer, x = random_layer(7, "CondConv", torch.float32)
    with pytest.raises(InvalidArgument, match=sentence):
        change(layer, x)
