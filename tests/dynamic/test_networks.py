"""The reference networks: where each kind has its mixtures, training, routing per block, and names."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from convfold.dynamic import AttentionRouter, DynamicLayer, SharedRouter, TemperatureSchedule, networks
from convfold.dynamic.networks.digits import FACTORIES, FAMILIES
from convfold.dynamic.networks.kinds import KINDS, Kind
from convfold.dynamic.networks.parts import Chain
from convfold.errors import InvalidArgument, UnknownName
from convfold.zoo import load_model
from support.dynamic import sample_by_sample
from support.dynamic_networks import OWN, TINY, drawn

D = torch.float64
CASES = [*((build, kind) for build in TINY.values() for kind in KINDS), *((build, "dynet") for build in OWN.values())]
NAMES = [*(f"{name}-{kind}" for name in TINY for kind in KINDS), *OWN]


def mixtures(net: nn.Module) -> dict[str, DynamicLayer]:
    return {name: module for name, module in net.named_modules() if isinstance(module, DynamicLayer)}


def convolutions(net: nn.Module) -> list[str]:
    return [name for name, module in net.named_modules() if isinstance(module, (nn.Conv2d, DynamicLayer))]


@pytest.mark.parametrize(("build", "kind"), CASES, ids=NAMES)
def test_a_step_of_training_reaches_every_parameter(build, kind):
    torch.manual_seed(0)
    net = build(kind).train()
    assert (TemperatureSchedule(net).temperature == 30) if kind == "dynamicconv" else True
    loss = nn.functional.cross_entropy(net(torch.randn(3, 1, 8, 8)), torch.tensor([0, 3, 9]))
    loss.backward()
    missing = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing
    # A router that the output does not depend on has a gradient of zero.
    routers = [p for name, p in net.named_parameters() if "router.last" in name and p.dim() == 1]
    assert all(bool(p.grad.any()) for p in routers)
    assert bool(routers) == (kind in ("condconv", "dynamicconv", "dynet"))
    net.eval()
    assert net(torch.randn(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize(("build", "kind"), CASES, ids=NAMES)
def test_a_saved_network_comes_back(build, kind):
    first, second = drawn(lambda: build(kind), 0), drawn(lambda: build(kind), 1)
    x = torch.randn(2, 1, 8, 8, dtype=D)
    assert not torch.equal(first(x), second(x))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(first(x), second(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_where_each_kind_has_its_mixtures(family):
    nets = {kind: FACTORIES[f"{family}_{kind}"](num_classes=7) for kind in KINDS}
    for kind in ("static", "wide", "se"):
        assert not mixtures(nets[kind])
    every = convolutions(nets["static"])
    for kind in ("dynamicconv", "uniform"):
        assert [*mixtures(nets[kind])] == every[1:], "every convolution but the first"
    blocks = len(nets["static"].blocks)
    found = {name.split(".")[1] if name.startswith("blocks") else name for name in mixtures(nets["condconv"])}
    count = 2 if family == "resnet" else 3
    last = {str(index) for index in range(blocks - count, blocks)}
    classifier = {name for name in found if name.startswith("classifier")}
    assert found == last | classifier
    assert len(classifier) == 1
    chains = [name for name in every if ".chain.convs." in name]
    assert [*mixtures(nets["dynet"])] == chains
    routers = [name for name, m in nets["dynet"].named_modules() if isinstance(m, SharedRouter)]
    assert len(routers) == blocks, "one predictor per block"
    assert all(layer.router is None for layer in mixtures(nets["dynet"]).values())


def test_the_controls_have_what_they_are_for():
    nets = {kind: FACTORIES[f"resnet_{kind}"]() for kind in KINDS}
    sizes = {kind: sum(p.numel() for p in net.parameters()) for kind, net in nets.items()}
    routing = sum(p.numel() for n, p in nets["dynamicconv"].named_parameters() if ".router." in n)
    assert sizes["uniform"] == sizes["dynamicconv"] - routing, "the same kernels, blind"
    convs = {kind: [m for m in nets[kind].modules() if isinstance(m, nn.Conv2d)] for kind in ("static", "wide")}
    for plain, wide in zip(convs["static"], convs["wide"], strict=True):
        assert wide.out_channels == 2 * plain.out_channels
    assert sum(type(m).__name__ == "Gate" for m in nets["se"].modules()) == len(nets["se"].blocks)


@pytest.mark.parametrize("kind", ["condconv", "dynet"])
def test_a_block_is_its_definition(kind):
    torch.manual_seed(0)
    chain = Chain(Kind(kind, 3), 4, [(6, 1, 1, 1, nn.ReLU), (6, 3, 2, 6, nn.ReLU), (5, 1, 1, 1, None)])
    chain = drawn(lambda: chain)
    x = torch.randn(3, 4, 7, 7, dtype=D)
    assert isinstance(chain.router, SharedRouter)
    logits = x.mean((2, 3)) @ chain.router.last.weight.T + chain.router.last.bias
    coefficients = torch.sigmoid(logits)
    expected, start = x, 0
    for conv, norm, act in zip(chain.convs, chain.norms, chain.acts, strict=True):
        size = 3 * conv.out_channels
        own = coefficients if kind == "condconv" else coefficients[:, start : start + size].reshape(3, 3, -1)
        start += size
        expected = act(norm(sample_by_sample(conv, expected, own)))
    torch.testing.assert_close(chain(x), expected, rtol=1e-12, atol=1e-12)


def test_a_gate_multiplies_channels():
    chain = drawn(lambda: Chain(Kind("se"), 3, [(8, 3, 1, 1, nn.ReLU)]))
    x = torch.randn(2, 3, 5, 5, dtype=D)
    y = chain.norms[0](nn.functional.conv2d(x, chain.convs[0].weight, padding=1)).relu()
    squeezed = nn.functional.linear(y.mean((2, 3)), chain.gate.squeeze.weight, chain.gate.squeeze.bias).relu()
    factors = torch.sigmoid(nn.functional.linear(squeezed, chain.gate.excite.weight, chain.gate.excite.bias))
    torch.testing.assert_close(chain(x), y * factors[:, :, None, None], rtol=1e-12, atol=1e-12)


def test_dynets_residual_predictor_has_two_layers():
    with torch.device("meta"):
        net = networks.dy_resnet50()
    for block in net.blocks:
        first, last = block.chain.router.last
        assert first.out_features == first.in_features // 4
        assert last.out_features == 6 * sum(conv.out_channels for conv in block.chain.convs)


def test_dynets_blocks_are_the_papers():
    with torch.device("meta"):
        mobile, shuffle = networks.dy_mobile(), networks.dy_shuffle()
    assert len(mobile.blocks) == 17
    for block in mobile.blocks:
        first, middle, last = block.chain.convs
        assert first.out_channels == middle.out_channels == last.out_channels
        assert middle.groups == middle.out_channels // 6
    assert len(shuffle.blocks) == 16
    for block in shuffle.blocks:
        parts = 4 if block.stride == 1 else 2
        middle = block.chain.convs[1]
        whole = sum(m.out_channels for m in (middle, *([block.shortcut.convs[-1]] if block.stride > 1 else [])))
        assert block.stride > 1 or whole * parts == block.chain.convs[0].in_channels * 4
        assert middle.out_channels // middle.groups == (2 if block.stride == 1 else 1)


def test_a_shuffle_block_keeps_three_quarters_and_deals_them_out():
    block = drawn(lambda: OWN["dy_shuffle"]("dynet")).blocks[1]
    x = torch.randn(2, 16, 5, 5, dtype=D)
    joined = torch.cat((x[:, :12], block.chain(x[:, 12:])), 1)
    order = [part * 4 + place for place in range(4) for part in range(4)]
    assert torch.equal(block(x), joined[:, order])


@pytest.mark.parametrize("name", FACTORIES)
def test_every_small_network_is_found_by_name_and_runs(name):
    model = load_model(f"convfold.dynamic.networks.digits:{name}", num_classes=7).eval()
    x = torch.randn(2, 3, 32, 32) if name.endswith("_rgb") else torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert model(x).shape == (2, 7)


def test_a_schedule_finds_every_router():
    net = TINY["mobilenet_v2"]("dynamicconv")
    routers = [m for m in net.modules() if isinstance(m, AttentionRouter)]
    schedule = TemperatureSchedule(net, steps=29)
    schedule.step()
    assert len(routers) == len(mixtures(net)) > 0
    assert all(float(router.temperature) == 29 for router in routers)
    assert sum(name.endswith("temperature") for name in net.state_dict()) == len(routers)


@pytest.mark.parametrize("kind", ["condconv", "dynamicconv", "dynet"])
def test_a_few_steps_learn(kind):
    torch.manual_seed(0)
    net = FACTORIES[f"resnet_{kind}"](num_classes=4).train()
    x, target = torch.randn(16, 1, 8, 8), torch.arange(16) % 4
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(net(x), target)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize(
    ("act", "error", "sentence"),
    [
        (lambda: Kind("condcov"), UnknownName, "unknown kind of convolution"),
        (lambda: Kind("dynet", 0), InvalidArgument, "at least one expert"),
        (lambda: networks.resnet(depths=(1, 1), channels=(8,)), InvalidArgument, "a depth and a width"),
        (lambda: networks.mobilenet_v3(blocks=()), InvalidArgument, "at least one block"),
        (lambda: networks.shufflenet_v2(channels=(116,), depths=(1,), parts=4), InvalidArgument, "do not split so"),
        (lambda: networks.shufflenet_v2(parts=3), InvalidArgument, "do not split so"),
        (lambda: networks.dy_mobile(kind="wide"), InvalidArgument, "no convolutions of this kind"),
    ],
)
def test_what_cannot_be_built_is_a_sentence(act, error, sentence):
    with pytest.raises(error, match=sentence):
        act()


def test_a_name_that_is_not_there_offers_the_nearest():
    with pytest.raises(UnknownName, match="resnet_condconv"):
        load_model("convfold.dynamic.networks.digits:resnet_condcon")
