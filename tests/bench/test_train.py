"""Bench train: which ways of training are compared, and how memory is counted."""

import pytest
import torch
from torch import nn

from convfold.blocks import Block
from convfold.errors import UnknownName
from convfold.studies.bench.train import Arm, TrainSetting, arms_of, bench_train, network, peak_bytes, step_of

SMALL = TrainSetting(layers=2, channels=4, size=6, batch=3, rounds=2)


@pytest.mark.parametrize("name", ["doconv", "expandnet"])
def test_blocks_without_statistics_train_in_both_modes(name):
    assert arms_of(name) == [Arm(name, "feature"), Arm(name, "kernel")]


@pytest.mark.parametrize("name", ["acnet", "dbb", "mobileone", "repvgg"])
def test_blocks_with_statistics_have_a_scaled_form_for_kernel_mode(name):
    assert arms_of(name) == [Arm(name, "feature"), Arm(name, "kernel", "scale")]


@pytest.mark.parametrize(
    ("arm", "norms"),
    [
        (Arm("doconv", "kernel"), 2),
        (Arm("expandnet", "feature"), 2),
        # Three normalised branches in each of two layers, and none after them.
        (Arm("acnet", "feature"), 6),
        (Arm("acnet", "kernel", "scale"), 2),
    ],
)
def test_every_arm_is_normalised_as_often_as_it_should_be(arm, norms):
    model = network(arm, SMALL)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == norms
    blocks = [module for module in model if isinstance(module, Block)]
    assert [block.mode for block in blocks] == [arm.mode] * 2
    assert model.training


def test_the_plain_network_holds_the_layer_that_the_block_stands_for():
    for name, kernel in (("doconv", 3), ("dilated", 13)):
        model = network(Arm(name, "feature"), SMALL, plain=True)
        assert [m.kernel_size for m in model if isinstance(m, nn.Conv2d)] == [(kernel, kernel)] * 2
        assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) == 2


def test_a_step_trains_every_parameter():
    model = network(Arm("repvgg", "feature"), SMALL)
    before = [parameter.clone() for parameter in model.parameters()]
    step_of(model, SMALL)()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(moved)


def test_peak_memory_closed_form():
    model = nn.Module()
    kept = []

    def step():
        a = torch.zeros(100)
        b = a + 1  # two at once, the views take nothing
        view = b.view(10, 10)[2:]
        del a
        c = view.relu()  # b and c: 400 + 320 bytes
        del b, view
        b = torch.zeros(50)  # c and this: less
        kept.append(b)  # lives on into the second step
        del c

    # In the second step 200 bytes of the first are alive beside its own 800.
    assert peak_bytes(model, step) == 1000
    model.weight = nn.Parameter(torch.zeros(25))
    model.register_buffer("count", torch.zeros(1, dtype=torch.float64))
    kept.clear()
    assert peak_bytes(model, step) == 1000 + 108


def test_an_in_place_result_takes_no_memory():
    def step():
        torch.zeros(100).add_(1).mul_(2)

    assert peak_bytes(nn.Module(), step) == 400


def test_an_arm_is_measured():
    state = torch.get_rng_state()
    result = bench_train(Arm("doconv", "feature"), SMALL)
    assert torch.equal(torch.get_rng_state(), state)
    assert result.time.rounds == 2
    assert result.memory > 1  # nine times the channels are kept for backward
    assert result.to_dict()["mode"] == "feature"
    assert Arm("dbb", "kernel", "scale").label == "dbb (scale), kernel"


def test_unknown_block():
    with pytest.raises(UnknownName, match="Did you mean doconv"):
        arms_of("dooconv")
