"""Bench fold: what it compares, and that it would see a fold that is wrong."""

import pytest
import torch
from torch import nn

from convfold.blocks import names
from convfold.errors import UnknownName
from convfold.studies.bench.fold import FoldResult, FoldSetting, bench_fold, executed, fold_errors, randomised
from convfold.studies.bench.layers import block_as, plain_layer
from convfold.studies.timing import Ratio

X = torch.randn(2, 8, 16, 8)


def random_block(name):
    torch.manual_seed(0)
    return randomised(block_as(name, plain_layer(name, 8, bias=True)), torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", names())
def test_errors_of_a_right_fold_are_rounding(name):
    with torch.inference_mode():
        folded64, folded32, wide32 = fold_errors(random_block(name), X)
    assert folded64 <= 1e-12
    assert 0 < folded32 <= 1e-4
    assert 0 < wide32 <= 1e-4


def test_errors_show_a_wrong_fold(monkeypatch):
    block = random_block("repvgg")
    right = type(block).fold

    def wrong(self):
        conv = right(self)
        with torch.no_grad():
            conv.bias[0] += 1e-3
        return conv

    monkeypatch.setattr(type(block), "fold", wrong)
    with torch.inference_mode():
        folded64, folded32, wide32 = fold_errors(block, X)
    assert folded64 > 1e-6
    assert folded32 > 1e-6
    assert wide32 < 1e-6


@pytest.mark.parametrize("name", ["doconv", "repvgg"])
def test_random_state_leaves_nothing_at_its_start(name):
    block = random_block(name)
    assert (block.mode, block.training) == ("feature", False)
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.weight < 0).any() and (norm.weight > 0).any() for norm in norms)
    assert all((norm.running_mean != 0).all() and (norm.running_var != 1).all() for norm in norms)
    assert all((parameter != 0).all() for parameter in block.parameters())


def test_random_state_is_the_generators_alone():
    first, second = random_block("dbb"), random_block("dbb")
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_operators_are_compared_with_their_arguments():
    conv = nn.Conv2d(8, 8, 3, padding=1)
    same = nn.Conv2d(8, 8, 3, padding=1)
    with torch.inference_mode():
        assert executed(conv, X) == executed(same, X)
        assert len(executed(conv, X)) == 1
        for other in (
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2),
            nn.Conv2d(8, 8, 3, padding=1, groups=2),
            nn.Conv2d(8, 8, 3, padding=1).to(memory_format=torch.channels_last),
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
        ):
            assert executed(other, X) != executed(conv, X)


def test_a_block_is_measured():
    result = bench_fold("acnet", FoldSetting(channels=4, size=6, batch=1, rounds=3))
    assert result.same_operators
    assert len(result.operators) == 1
    assert result.error_float64 <= 1e-12
    assert result.folded.rounds == result.control.rounds == 3
    plain = result.to_dict()
    assert plain["folded_within_control"] is result.within_control
    assert plain["folded"]["median"] == result.folded.median


@pytest.mark.parametrize(("folded", "within"), [(1.01, True), (1.2, False), (0.7, False)])
def test_within_the_control(folded, within):
    control, other = Ratio(1.0, 0.95, 1.05, 9), Ratio(folded, folded, folded, 9)
    assert FoldResult("dbb", other, control, other, 0.0, 0.0, 0.0, True, ()).within_control is within


def test_unknown_block():
    with pytest.raises(UnknownName, match="Did you mean dbb"):
        bench_fold("dbbb", FoldSetting.quick())
