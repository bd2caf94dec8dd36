"""expand puts dynamic layers into any model without changing its function."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import convfold
from convfold import dynamic
from convfold.dynamic import DynamicLayer
from convfold.errors import InvalidArgument, UnknownName
from convfold.zoo import load_model
from support.make import randomise

D = torch.float64
NAMES = ("condconv", "dynamicconv", "dynet")


@pytest.mark.parametrize("name", NAMES)
def test_expand_keeps_the_function_in_both_modes(name):
    model = randomise(load_model("torchvision:resnet18").double(), torch.Generator().manual_seed(0)).eval()
    x = torch.randn(2, 3, 64, 64, dtype=D)
    wide = convfold.expand(model, name)
    assert sum(isinstance(m, DynamicLayer) for m in wide.modules()) == 20
    for training in (False, True):
        expected, got = model.train(training)(x), wide.train(training)(x)
        assert float((got - expected).abs().max()) <= 1e-12 * float(expected.abs().max())
    model.eval()
    plain = convfold.fold(wide.eval(), x)
    assert float((plain(x) - model(x)).abs().max()) <= 1e-12 * float(model(x).abs().max())
    assert not any(isinstance(m, (DynamicLayer, nn.BatchNorm2d)) for m in plain.modules())


@pytest.mark.parametrize("name", NAMES)
def test_options_places_and_kinds(name):
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.ReLU(), nn.Conv1d(8, 8, 1, groups=4, bias=False)).double()
    wide = convfold.expand(model, name, where="0", num_experts=2)
    assert wide[0].num_experts == 2
    assert type(wide[2]) is nn.Conv1d
    assert wide[0].dims == 1
    x = torch.randn(3, 4, 12, dtype=D)
    torch.testing.assert_close(wide(x), model(x), rtol=1e-12, atol=1e-12)


def test_fully_connected_layers_and_recipes(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 5)).double()
    x = torch.randn(2, 3, 8, 8, dtype=D)
    wide = convfold.expand(model, "dynamicconv", where="2")
    assert type(wide[2]) is dynamic.DynamicLinear
    torch.testing.assert_close(wide(x), model(x), rtol=1e-12, atol=1e-12)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[[rule]]\nname = "0"\nblock = "condconv"\n')
    assert type(convfold.expand(model, recipe)[0]) is dynamic.CondConv2d
    with pytest.raises(InvalidArgument, match="no layer can become dynet"):
        convfold.expand(model, "dynet", where="2")


def test_a_mixture_is_not_expanded_again():
    wide = convfold.expand(nn.Sequential(nn.Conv2d(3, 4, 3)), "condconv")
    with pytest.raises(InvalidArgument, match="no convolution to expand"):
        convfold.expand(wide, "dbb")


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownName, match="condconv"):
        convfold.expand(nn.Sequential(nn.Conv2d(3, 4, 3)), "condcov")


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda w: dynamic.CondConv2d(4, 4, 3, conv="dbb").start(w), "experts that are blocks start one by one"),
        (lambda w: dynamic.CondConv2d(4, 4, 3, router=None).start(w), "without a router of its own"),
        (lambda w: dynamic.CondConv2d(4, 4, 5).start(w), "the kernel does not fit"),
        (lambda w: dynamic.CondConv2d(4, 4, 3, bias=False).start(w, torch.zeros(4)), "built with bias=False"),
        (lambda w: dynamic.CondConv2d(4, 4, 3).start(w, None, nn.BatchNorm2d(4)), "no normalisation of its own"),
        (lambda w: dynamic.CondConv2d(4, 4, 3, router="other"), "router is unknown"),
        (lambda w: dynamic.CondConv2d(4, 4, 3, temperature=3.0), "options of its router"),
    ],
)
def test_a_start_that_cannot_be_is_a_sentence(act, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        act(torch.randn(4, 4, 3, 3))


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_noise_separates_the_experts_without_a_change_of_function(noise):
    torch.manual_seed(0)
    layer = dynamic.DynamicConv2d(8, 8, 3, dtype=D)
    weight = torch.randn(8, 8, 3, 3, dtype=D)
    layer.start(weight, noise=noise)
    apart = layer.weight - weight
    torch.testing.assert_close(apart.sum(0), torch.zeros_like(weight), rtol=0, atol=1e-12)
    assert float(apart.detach().std()) == pytest.approx(noise * float(weight.std()), rel=0.05, abs=1e-12)
