"""norm="scale": factors in place of batch statistics, so that kernel mode exists in training and is the default."""

from typing import Any

import pytest
import torch
from torch import nn

from blocks.cases import normal
from blocks.contract import gradients, operators, same_values
from convfold import blocks
from support.make import randomise

OPTIONS: dict[str, dict[str, Any]] = {
    "acnet": {},
    "dbb": {},
    "dilated": {"branches": ((2, 2), (3, 1))},
    "mobileone": {"branches": 2},
    "qarepvgg": {"pool": True},
    "repvgg": {},
}
SETTINGS = {
    "dense": {"padding": 1},
    "strided, circular": {"stride": 2, "padding": 1, "padding_mode": "circular"},
    "depthwise": {"groups": 4, "padding": 2, "dilation": 2},
}


def scaled(name: str, dims: int = 2, **arguments: Any) -> Any:
    module = blocks.build(name, dims, 4, 4, 3, **arguments, **OPTIONS[name], norm="scale", dtype=torch.float64)
    return randomise(module, torch.Generator().manual_seed(6)).train()


def test_every_block_with_norms_is_here() -> None:
    assert {name for name in blocks.names() if getattr(blocks.find(name, 2), "has_norm", False)} == set(OPTIONS)
    with_norms = {
        name
        for name in blocks.names()
        for module in [blocks.build("repmlp", 2, 4, 4, 2, 2) if name == "repmlp" else example(name)]
        if any(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    }
    assert with_norms == {*OPTIONS, "repmlp"}  # repmlp's own tests take both norms


def example(name: str) -> nn.Module:
    return blocks.build(name, 2, 4, 4, 3, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("arguments", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("name", OPTIONS)
def test_both_modes_agree_in_training(name: str, arguments: dict[str, Any]) -> None:
    module, x = scaled(name, **arguments), normal(3, 4, 7, 8)
    assert module.mode == "kernel"
    weights = normal(*module(x).shape, seed=8)
    composed, value = gradients(module, x, weights), module(x)
    assert operators(module, normal(11, 4, 7, 8)).convolved.count(11) == 1
    module.mode = "feature"
    same_values(module(x), value)
    wide = gradients(module, x, weights)
    least = 1e-3 * max(g.abs().max().item() for g in wide.values())
    for key, gradient in wide.items():
        same_values(composed[key], gradient, ceiling=1e-10, least=least)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("name", OPTIONS)
def test_in_other_dimensions(name: str, dims: int) -> None:
    module, x = scaled(name, dims, padding=1), normal(2, 4, *[5] * dims)
    value = module(x)
    module.mode = "feature"
    same_values(module(x), value)
    same_values(module.fold()(x), value)


@pytest.mark.parametrize("mode", ["feature", "kernel"])
@pytest.mark.parametrize("name", [*OPTIONS, "repmlp"])
def test_no_batch_statistics_are_kept_or_used(name: str, mode: str) -> None:
    if name == "repmlp":
        module = blocks.build("repmlp", 2, 4, 4, 7, 4, norm="scale", dtype=torch.float64).train()
    else:
        module = scaled(name, padding=1)
    module.mode = mode
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())
    x = normal(4, 4, 7, 8)
    alone = torch.cat([module(sample[None]) for sample in x])
    same_values(module(x), alone)
    state = {key: value.clone() for key, value in module.state_dict().items()}
    module(3 * x + 1)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    # It has the state of its weights alone, in eval mode the same function, and folds while it trains.
    same_values(module.eval()(x), alone)
    same_values(module.train().fold()(x), alone)


@pytest.mark.parametrize("name", [*OPTIONS, "repmlp"])
def test_it_trains(name: str) -> None:
    torch.manual_seed(0)
    if name == "repmlp":
        module = blocks.build("repmlp", 2, 4, 4, 7, 4, norm="scale", dtype=torch.float64).train()
    else:
        module = blocks.build(name, 2, 4, 4, 3, padding=1, **OPTIONS[name], norm="scale", dtype=torch.float64).train()
    x, target = normal(4, 4, 7, 8), normal(4, 4, 7, 8, seed=1)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.02)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        losses.append((module(x) - target).square().mean())
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_it_starts_at_a_convolution_in_every_mode(name: str) -> None:
    for arguments in SETTINGS.values():
        module = scaled(name, **arguments)
        conv = nn.Conv2d(4, 4, 3, **arguments).double()
        module.start(conv.weight, conv.bias)
        x = normal(2, 4, 7, 8)
        for training in (True, False):
            module.train(training)
            for mode in ("feature", "kernel"):
                module.mode = mode
                same_values(module(x), conv(x))
