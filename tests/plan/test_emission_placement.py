"""Where a folded convolution lands: at the place of the convolution or block, and nothing else is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from convfold.plan.emission.border_bias import BorderBias, Bordered
from convfold.plan.emission.rewritten import Rewritten
from support.make import randomise

X = torch.randn(2, 4, 12, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _random(model: nn.Module) -> nn.Module:
    return randomise(model.double(), torch.Generator().manual_seed(0)).eval()


def _folded(model: nn.Module, *more: Tensor) -> Any:
    folded = convfold.fold(model, X)
    for x in (X, *more):
        with torch.no_grad():
            expected = model(x)
            torch.testing.assert_close(folded(x), expected, rtol=0, atol=1e-11 * float(expected.abs().max()))
    return folded


class WithSpare(nn.Module):
    """A head that only training calls."""

    def __init__(self, spare: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.spare = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), spare

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


@pytest.mark.parametrize("inside", [False, True])
def test_children_that_were_never_reached_survive(inside: bool) -> None:
    model = _random(WithSpare(nn.BatchNorm2d(4)))
    folded = _folded(nn.Sequential(model, nn.ReLU()).eval() if inside else model)
    kept = folded[0] if inside else folded
    assert type(kept) is WithSpare
    assert [type(m) for m in kept.children()] == [nn.Conv2d, nn.Identity, nn.BatchNorm2d]
    assert torch.equal(kept.spare.running_var, model.spare.running_var)


def test_children_without_numbers_do_not_stop_a_replacement() -> None:
    assert type(_folded(_random(WithSpare(nn.Dropout())))) is nn.Conv2d


def test_a_branched_block_that_holds_more_than_was_reached_is_rewritten() -> None:
    class Branched(WithSpare):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) + self.norm(self.conv(x))

    model = _random(nn.Sequential(Branched(nn.Linear(2, 2)), nn.BatchNorm2d(4)))
    folded = _folded(model)
    assert isinstance(folded[0], Branched)
    assert torch.equal(folded[0].spare.weight, model[0].spare.weight)


@pytest.mark.parametrize("name", ["RepVGGConv2d", "ACNetConv2d", "DBBConv2d", "MobileOneConv2d"])
def test_a_block_with_a_norm_behind_it_becomes_a_convolution_at_its_own_place(name: str) -> None:
    block = getattr(blocks, name)(4, 4, 3, padding=1)
    folded = _folded(_random(nn.Sequential(nn.ReLU(), block, nn.BatchNorm2d(4), nn.ReLU())))
    assert [type(m) for m in folded] == [nn.ReLU, nn.Conv2d, nn.Identity, nn.ReLU]


class Stem(nn.Module):
    """timm's way: the user's own forward stays as it was."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn, self.act = conv, nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class Branches(nn.Module):
    """A block that gives no equation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.point, self.skip = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x) + self.point(x) + self.skip(x)


@pytest.mark.parametrize("block", [blocks.RepVGGConv2d(4, 4, 3, padding=1), Branches()])
def test_the_parent_s_forward_is_not_touched(block: nn.Module) -> None:
    folded = _folded(_random(nn.Sequential(Stem(block), nn.Sigmoid())), X[:1, :, :7, :5])
    assert type(folded[0]) is Stem
    assert [type(m) for m in folded[0].children()] == [nn.Conv2d, nn.Identity, nn.ReLU]
    assert not any(isinstance(m, Rewritten) for m in folded.modules())


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.point, self.conv = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.point(x))


def test_a_bias_map_stands_where_the_convolution_was() -> None:
    folded = _folded(_random(nn.Sequential(Padded(), nn.BatchNorm2d(4), nn.ReLU())), X[..., :5, :4], X[..., :1, :2])
    assert [type(m) for m in folded] == [nn.Sequential, nn.Identity, nn.ReLU]
    assert [type(m) for m in folded[0]] == [nn.Conv2d, BorderBias]


def test_a_bias_map_that_a_stride_decides_sees_the_size_before() -> None:
    model = _random(nn.Sequential(Padded(), nn.Sequential(nn.AvgPool2d(2), nn.BatchNorm2d(4)), nn.ReLU()))
    folded = _folded(model)
    assert [type(m) for m in folded[0]] == [nn.Conv2d, BorderBias]
    assert type(folded[0]) is Bordered
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    with pytest.raises(RuntimeError, match=r"was folded for maps of \(12, 10\), got \(11, 10\)"):
        folded(X[..., 1:, :])


def test_plans_with_bias_maps_are_saved(tmp_path: Path) -> None:
    def make() -> nn.Module:
        return _random(nn.Sequential(Padded(), nn.Sequential(nn.AvgPool2d(2), nn.BatchNorm2d(4)), nn.ReLU()))

    plan = convfold.plan(make(), X)
    plan.save(tmp_path / "plan.json")
    loaded, folded = convfold.load_plan(tmp_path / "plan.json").apply(make()), plan.apply()
    assert repr(loaded) == repr(folded)
    loaded.load_state_dict(folded.state_dict())
    torch.testing.assert_close(loaded.eval()(X), folded(X))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [2, (1, 0), "same"])
def test_other_modes_of_padding_stay_in_the_convolution(mode: str, padding: Any) -> None:
    conv = nn.Conv2d(4, 4, (3, 5), padding=padding, padding_mode=mode)
    model = _random(nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU()))
    folded = _folded(model, X[..., :7, :6])
    assert [type(m) for m in folded] == [nn.Conv2d, nn.Identity, nn.ReLU]
    assert (folded[0].padding_mode, folded[0].padding) == (mode, conv.padding)
    assert convfold.cost(folded, X).operators == convfold.cost(model, X).operators - 1


def test_padding_of_its_own_module_stays_there() -> None:
    model = _random(nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    folded = _folded(model)
    assert [type(m) for m in folded] == [nn.ReflectionPad2d, nn.Conv2d, nn.Identity, nn.ReLU]


def test_a_padding_that_something_else_reads_too_stands_apart() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = nn.functional.pad(x, (1, 1, 1, 1), "reflect")
            return torch.relu(self.norm(self.conv(y))) + torch.sigmoid(y).mean()

    folded = _folded(_random(Two()))
    assert isinstance(folded.conv, nn.Conv2d)
    assert folded.conv.padding == (0, 0)


def test_a_block_that_reflects_becomes_one_convolution_that_does() -> None:
    block = blocks.ACNetConv2d(4, 4, 3, padding=1, padding_mode="reflect")
    folded = _folded(_random(nn.Sequential(nn.ReLU(), block, nn.BatchNorm2d(4))))
    assert [type(m) for m in folded] == [nn.ReLU, nn.Conv2d, nn.Identity]
    assert folded[1].padding_mode == "reflect"
