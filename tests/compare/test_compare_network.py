"""The networks of the comparison: one start for all kinds, and tasks that are one for all arms."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("sklearn")

from convfold.dynamic import DynamicLayer, Router
from convfold.errors import UnknownName
from convfold.studies.compare.dynamic import network as networks
from convfold.studies.compare.dynamic.arms import ARMS
from convfold.studies.compare.dynamic.network import EXPERTS, build, started
from convfold.studies.compare.dynamic.tasks import dataset, inverted

MIXED = ["uniform", "condconv", "dynamicconv", "dynet"]


@pytest.mark.parametrize("kind", MIXED)
def test_experts_lie_around_the_static_kernel_and_apart(kind: str) -> None:
    static, network = started("static", 5), started(kind, 5)
    kernels = dict(static.named_parameters())
    layers = {path: m for path, m in network.named_modules() if isinstance(m, DynamicLayer)}
    assert len(layers) >= 4
    for path, layer in layers.items():
        assert layer.weight is not None
        neutral = layer.router.neutral if isinstance(layer.router, Router) else 0.5
        kernel, experts = kernels[f"{path}.weight"].detach().double(), layer.weight.detach().double()
        # Each float32 weight is rounded once, of size a few deviations of the kernel; K of them are added.
        ceiling = EXPERTS * torch.finfo(torch.float32).eps * float(experts.abs().max())
        assert float((neutral * experts.sum(0) - kernel).abs().max()) <= ceiling
        assert float((experts[0] - experts[1]).std() / kernel.std()) > 0.5


@pytest.mark.parametrize("kind", ["uniform", "se", *MIXED])
def test_what_kinds_share_starts_equal(kind: str) -> None:
    static, network = started("static", 2).state_dict(), started(kind, 2).state_dict()
    same = [name for name in static if name in network and static[name].shape == network[name].shape]
    assert {"stem.0.weight", "blocks.1.shortcut.1.weight"} <= set(same)
    for name in same:
        assert torch.equal(static[name], network[name]), name


def test_blind_kernels_start_as_the_static_function() -> None:
    x = torch.randn(6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    static, blind = (started(kind, 4).double().eval()(x).detach() for kind in ("static", "uniform"))
    # Weights were rounded to float32 when they were scattered; five layers stand one behind another.
    assert float((static - blind).abs().max()) <= 64 * torch.finfo(torch.float32).eps * float(static.abs().max())


def test_another_seed_is_another_start() -> None:
    assert not torch.equal(started("dynet", 0).stem[0].weight, started("dynet", 1).stem[0].weight)  # type: ignore[index,union-attr]


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_has_a_factory_for_the_command_line(arm: str) -> None:
    kind = ARMS[arm].kind
    network = getattr(networks, kind)()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert [p.shape for p in network.parameters()] == [p.shape for p in started(kind, 0).parameters()]


def test_an_unknown_kind_is_a_sentence() -> None:
    with pytest.raises(UnknownName, match=r"unknown kind of convolution.*'cond'"):
        build("cond")


def test_inversion_is_by_a_coin_of_the_seed_and_tested_both_ways() -> None:
    plain, first, again, other = dataset("digits", 3), *(dataset("inverted", seed) for seed in (3, 3, 4))
    low, high = float(plain.train_x.min()), float(plain.train_x.max())
    turned = inverted(plain.train_x, low, high)
    is_plain = (first.train_x == plain.train_x).flatten(1).all(1)
    is_turned = (first.train_x == turned).flatten(1).all(1)
    assert bool((is_plain ^ is_turned).all())
    count = len(is_turned)
    assert abs(int(is_turned.sum()) - count / 2) < 4 * (count / 4) ** 0.5  # four deviations of a fair coin
    assert torch.equal(first.train_x, again.train_x)
    assert not torch.equal(first.train_x, other.train_x)
    half = len(plain.test_x)
    assert torch.equal(first.test_x[:half], plain.test_x)
    assert torch.equal(first.test_x[half:], inverted(plain.test_x, low, high))
    assert torch.equal(first.test_y, torch.cat([plain.test_y, plain.test_y]))


def test_rates_are_chosen_without_the_test_half() -> None:
    whole, tuning = dataset("digits", 0), dataset("digits", 0, tuning=True)
    rows = {tuple(row) for row in whole.train_x.flatten(1).tolist()}
    assert len(tuning.train_x) + len(tuning.test_x) == len(whole.train_x)
    for part in (tuning.train_x, tuning.test_x):
        assert all(tuple(row) in rows for row in part.flatten(1).tolist())
    assert torch.equal(
        torch.cat([tuning.test_x, tuning.train_x]).flatten(1).sum(1).sort().values,
        whole.train_x.flatten(1).sum(1).sort().values,
    )
