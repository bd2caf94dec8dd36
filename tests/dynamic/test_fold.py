"""What of a mixture is static folds: normalisations into the experts, experts that are blocks, constant routing."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

import convfold
from convfold import dynamic
from convfold.dynamic import DynamicLayer
from convfold.errors import InvalidArgument, NotFoldable
from support.make import randomise

D = torch.float64
KINDS = ("CondConv2d", "DynamicConv2d", "DyNetConv2d")


def _random(module, seed=0):
    return randomise(module.double(), torch.Generator().manual_seed(seed)).eval()


class Net(nn.Module):
    """Every kind of static part, each in front of a nonlinearity."""

    def __init__(self):
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.cond, self.cond_norm = dynamic.CondConv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.blocks, self.blocks_norm = dynamic.DynamicConv2d(8, 8, 3, padding=1, conv="acnet"), nn.BatchNorm2d(8)
        self.dynet, self.dynet_norm = dynamic.DyNetConv2d(8, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.constant, self.constant_norm = dynamic.CondConv2d(8, 8, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(self.cond_norm(self.cond(x)))
        x = torch.relu(self.blocks_norm(self.blocks(x)))
        x = torch.relu(self.dynet_norm(self.dynet(x)))
        x = torch.relu(self.constant_norm(self.constant(x)))
        return self.head(x.mean((2, 3)))


def _net(seed=0):
    net = _random(Net(), seed)
    nn.init.zeros_(net.constant.router.last.weight)
    return net


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("conv", [None, "dbb", ("dbb", "acnet")])
@pytest.mark.parametrize("bias", [True, False])
def test_a_normalisation_goes_into_the_experts(kind, conv, bias):
    layer = _random(getattr(dynamic, kind)(4, 6, 3, padding=1, bias=bias, conv=conv))
    norm = _random(nn.BatchNorm2d(6), 1)
    x = torch.randn(3, 4, 9, 8, dtype=D, generator=torch.Generator().manual_seed(2))
    for folded, expected in ((layer.simplified(), layer(x)), (layer.absorbed(norm), norm(layer(x)))):
        assert isinstance(folded, type(layer))
        assert folded.experts is None
        scale = float(expected.detach().abs().max())
        assert float((folded(x) - expected).detach().abs().max()) <= 1e-12 * scale
    softmax = kind == "DynamicConv2d"
    assert (layer.absorbed(norm).static_bias is None) == softmax


def test_the_shift_is_static_where_coefficients_do_not_add_to_one():
    layer, norm = _random(dynamic.CondConv2d(4, 6, 3, bias=False)), _random(nn.BatchNorm2d(6), 1)
    x = torch.randn(2, 4, 8, 8, dtype=D)
    routing = torch.full((2, 4), 0.075, dtype=D)  # adds to 0.3
    folded = layer.absorbed(norm)
    torch.testing.assert_close(folded(x, routing), norm(layer(x, routing)), rtol=1e-12, atol=1e-12)
    # As if it added to one: the published mistake.
    wrong = copy.deepcopy(folded)
    wrong.bias = nn.Parameter(folded.static_bias.detach().expand(4, -1).clone())
    wrong.static_bias = None
    assert float((wrong(x, routing) - norm(layer(x, routing))).detach().abs().max()) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_constant_routing_is_a_static_convolution(kind):
    layer = getattr(dynamic, kind)(4, 6, (3, 2), stride=2, padding=1, dtype=D)
    weight, bias = torch.randn(6, 4, 3, 2, dtype=D), torch.randn(6, dtype=D)
    layer.start(weight, bias)
    x = torch.randn(3, 4, 9, 8, dtype=D)
    static = nn.functional.conv2d(x, weight, bias, stride=2, padding=1)
    torch.testing.assert_close(layer(x), static, rtol=1e-12, atol=1e-12)
    folded = layer.fold()
    assert type(folded) is nn.Conv2d
    torch.testing.assert_close(folded(x), static, rtol=1e-12, atol=1e-12)
    assert convfold.verify(layer, folded, x)
    assert type(convfold.fold(layer, x)) is nn.Conv2d
    # One step of training, and it is dynamic.
    layer(x).square().sum().backward()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter -= 1e-3 * parameter.grad
    assert layer.fold() is layer
    assert len({float(w.sum()) for w in layer.weight.detach()}) > 1


@pytest.mark.parametrize("inputs", [True, False])
def test_a_model_folds_and_is_proved_equal(inputs):
    net, x = _net(), torch.randn(2, 3, 12, 12, dtype=D)
    state = copy.deepcopy(net.state_dict())
    folded = convfold.fold(net, x) if inputs else convfold.fold(net)
    assert convfold.verify(net, folded, x)
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert type(folded.constant) is nn.Conv2d
    assert sum(isinstance(m, DynamicLayer) for m in folded.modules()) == 3
    assert pickle.loads(pickle.dumps(folded.cond)).static_bias is not None
    assert not (inputs and convfold.plan(folded, x).regions)
    out = folded(x)
    out.sum().backward()
    assert folded.cond.weight.grad is not None


def test_the_plan_says_what_becomes_of_each_and_is_recounted():
    net, x = _net(), torch.randn(2, 3, 12, 12, dtype=D)
    plan = convfold.plan(net, x)
    heads = {region.paths[0]: region for region in plan.regions}
    assert heads["cond"].paths == ("cond", "cond_norm")
    assert heads["cond"].result.startswith("CondConv2d")
    assert heads["constant"].result.startswith("Conv2d")
    assert heads["blocks"].after.operators < heads["blocks"].before.operators
    folded = plan.apply()
    report = convfold.cost(folded, x)
    assert (plan.after.macs, plan.after.operators) == (report.macs, report.operators)
    assert all(bool(certificate) for certificate in plan.certificates.values())
    assert {"cond", "constant"} <= {paths[0] for paths in plan.certificates}
    assert "mixture" in str(plan.explain().to_dict()["regions"])
    keys = plan.keys
    assert keys["cond_norm.bias"] == "cond.static_bias"
    assert keys["blocks_norm.bias"] == "blocks.bias"
    assert keys["dynet.router.last.weight"] == "dynet.router.last.weight"
    assert set(keys.values()) <= set(folded.state_dict())


def test_a_saved_plan_gives_the_folded_structure(tmp_path):
    net, x = _net(), torch.randn(2, 3, 12, 12, dtype=D)
    plan = convfold.plan(net, x)
    folded = plan.apply()
    plan.save(tmp_path / "plan.json")
    rebuilt = convfold.load_plan(tmp_path / "plan.json").apply(_net(1))
    rebuilt.load_state_dict(folded.state_dict())
    torch.testing.assert_close(rebuilt(x), folded(x), rtol=0, atol=0)
    assert json.loads((tmp_path / "plan.json").read_text())["changes"]
    with pytest.raises(InvalidArgument, match="the plan is not of this"):
        convfold.load_plan(tmp_path / "plan.json").apply(folded)


def test_a_normalisation_in_training_stops_the_fold():
    net, x = _net(), torch.randn(2, 3, 12, 12, dtype=D)
    net.cond_norm.train()
    with pytest.raises(NotFoldable, match="cond_norm"):
        convfold.fold(net, x)
    with pytest.raises(NotFoldable, match="training mode"):
        net.cond.absorbed(net.cond_norm)


def test_a_mixture_in_which_nothing_is_static_still_says_why():
    x = torch.randn(2, 4, 8, 8, dtype=D)
    net = nn.Sequential(_random(dynamic.CondConv2d(4, 4, 3)), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)).double().eval()
    net[1].train()
    with pytest.raises(NotFoldable, match="training mode"):
        convfold.fold(net, x)
    net[1].eval().register_forward_hook(lambda module, args, out: None)
    plan = convfold.plan(net, x)
    assert any(why.place == "1" and "watched" in why.reason for why in plan.refusals)
    torch.testing.assert_close(plan.apply()(x), net(x), rtol=0, atol=0)


def test_a_hook_keeps_the_layer_and_is_said():
    net, x = _net(), torch.randn(2, 3, 12, 12, dtype=D)
    net.cond.register_forward_hook(lambda module, args, out: None)
    plan = convfold.plan(net, x)
    assert any(why.place == "cond" and "hook" in why.reason for why in plan.refusals)
    assert plan.apply().cond.static_bias is None


def test_a_layer_that_lies_about_itself_is_rolled_back():
    class Liar(dynamic.CondConv2d):
        dims = 2
        name = "liar"
        registry = dynamic.registry.Registry("liar")

        def absorbed(self, norm):
            wrong = super().absorbed(norm)
            with torch.no_grad():
                wrong.weight.mul_(1.001)
            return wrong

    net, x = _net(), torch.randn(2, 3, 12, 12, dtype=D)
    net.cond = _random(Liar(8, 8, 3, padding=1))
    plan = convfold.plan(net, x)
    with pytest.warns(convfold.errors.ConvfoldWarning, match="rolled back"):
        kept = plan.apply()
    torch.testing.assert_close(kept(x), net(x), rtol=0, atol=0)
    assert any("not equal" in why.reason and why.place == "cond" for why in plan.refusals)
