"""expand, train, fold on whole networks: the function stays, and verify says so."""

import copy
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from support.names import IN_TRAINING
from transform.models import UNet, mobilenet, noise, randomise_gently, relative, resnet, short_resnet

NAMES = IN_TRAINING
EXACT_IN_TRAINING = 1e-9


def unet() -> nn.Module:
    return randomise_gently(UNet().double(), 3)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, int]]] = {
    # Per network how many convolutions a block that needs a kernel larger than one, and one that does not, takes.
    "resnet18": (resnet, noise(2, 3, 33, 35), {"large": 17, "all": 20}),
    "short_resnet18": (short_resnet, noise(2, 3, 33, 35), {"large": 13, "all": 15}),
    "mobilenet_v2": (mobilenet, noise(2, 3, 33, 35), {"large": 18, "all": 52}),
    "unet": (unet, noise(2, 3, 16, 16), {"large": 10, "all": 11}),
}


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def untouched(model: nn.Module, state: dict[str, Tensor], text: str) -> None:
    assert repr(model) == text
    now = model.state_dict()
    assert list(now) == list(state)
    assert all(torch.equal(now[key], value) for key, value in state.items())


def train(model: nn.Module, x: Tensor) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step in range(3):
        optimiser.zero_grad()
        y = model.train()(x + 0.1 * step)
        (y * noise(*y.shape, seed=step)).mean().backward()
        assert all(p.grad is not None for p in model.parameters())
        optimiser.step()


# The whole ResNet-18 takes ten seconds in float64: once.
@pytest.mark.parametrize(
    ("name", "network"),
    [("repvgg", "resnet18"), *product(NAMES, ["short_resnet18", "mobilenet_v2", "unet"])],
)
def test_expand_train_fold(name: str, network: str) -> None:
    make, x, counts = NETWORKS[network]
    torch.manual_seed(0)
    model = make().train()
    state, text = copy.deepcopy(model.state_dict()), repr(model)
    options = {"mobileone": {"branches": 2}, "expandnet": {"expansion": 2}}.get(name, {})
    wide = convfold.expand(model, name, example_inputs=x, **options)
    assert all(module.training for module in wide.modules())
    untouched(model, state, text)
    large = name in ("acnet", "dbb", "doconv", "orepa")
    taken = [m for m in wide.modules() if isinstance(m, blocks.Block)]
    assert len(taken) == counts["large" if large else "all"]

    with torch.no_grad():
        assert relative(wide.eval()(x), model.eval()(x)) <= 1e-12
        # Every convolution of these networks but the U-Net's head has a norm; without one a sum of normalised
        # branches is the same in eval mode only. Batch statistics amplify roundings, the more the deeper.
        if network != "unet" or name not in ("mobileone", "repvgg"):
            trained = copy.deepcopy(model).train()
            assert relative(copy.deepcopy(wide).train()(x), trained(x)) <= EXACT_IN_TRAINING
    assert convfold.verify(model, wide, x)

    before = wide(x)
    train(wide, x)
    wide.eval()
    with torch.no_grad():
        y = wide(x)
        assert relative(y, before) > 1e-6, "training moved nothing"
        plan = convfold.plan(wide, x)
        plain = plan.apply()
        assert relative(plain(x), y) <= 1e-12
    certificate = convfold.verify(wide, plain, x)
    assert certificate, str(certificate)
    assert all(plan.certificates.values())
    # All that was expanded is one convolution again, and every batch norm is gone.
    assert not [m for m in plain.modules() if isinstance(m, blocks.Block)]
    assert norms(plain) == 0
    assert plan.after.convolutions == convfold.cost(model, x).convolutions
    assert plan.after.macs == convfold.cost(model, x).macs
    assert plan.after.operators == convfold.plan(model, x).after.operators


@pytest.mark.parametrize("network", NETWORKS)
def test_a_symbolic_trace_pairs_as_a_recorded_run_does(network: str) -> None:
    make, x, _ = NETWORKS[network]
    model = make()
    seen = convfold.plan_expansion(model, "repvgg", example_inputs=x)
    read = convfold.plan_expansion(model, "repvgg")
    assert seen.choices == read.choices
    model.eval()
    plans = convfold.plan(model, x), convfold.plan(model)
    assert not any(plan.refusals for plan in plans)
    # The graph's regions hold sums and concatenations beside what the modules show.
    whole, parts = ([set(region.paths) for region in plan.regions] for plan in plans)
    assert all(sum(part <= region for region in whole) == 1 for part in parts)
    assert all(any(part <= region for part in parts) for region in whole)
