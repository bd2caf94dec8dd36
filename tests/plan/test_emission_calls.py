"""Forwards written anew beside what they call: modules of other names, idle code, and places that are gone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold.plan.emission.rewritten import Rewritten
from support.make import randomise

X = torch.randn(2, 4, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _random(model: nn.Module) -> nn.Module:
    return randomise(model.double(), torch.Generator().manual_seed(0)).eval()


def _folded(model: nn.Module) -> Any:
    folded = convfold.fold(model, X)
    for x in (X, X[:1]):
        with torch.no_grad():
            expected = model(x)
            torch.testing.assert_close(folded(x), expected, rtol=0, atol=1e-12 * float(expected.abs().max()))
    return folded


class Two(nn.Module):
    """Two convolutions that become one, so that the forward is written anew, and a third one behind."""

    def __init__(self, last: Any) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), last

    def forward(self, x: Tensor) -> Tensor:
        last = self.last[0] if isinstance(self.last, list) else self.last
        y: Tensor = last(torch.relu(self.left(x) + self.right(x)))
        return y


class Shared(nn.Module):
    """One convolution is called here, under one name, and in `Two`, under another or none."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(4, 4, 3))
        self.two = Two([self.stem[0]] if hidden else self.stem[0])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(torch.relu(self.stem(x)))
        return y


def test_a_shared_module_is_called_by_the_name_that_it_has_there() -> None:
    folded = _folded(_random(Shared(hidden=False)))
    assert isinstance(folded.two, Rewritten)
    assert "self.last(" in folded.two.convfold_forward
    assert folded.two.last is folded.stem[0]


def test_a_forward_that_calls_what_its_module_does_not_hold_is_written_out_in_its_caller() -> None:
    folded = _folded(_random(Shared(hidden=True)))
    assert isinstance(folded, Rewritten)
    assert folded.convfold_forward.count("self.stem") == 2
    assert not isinstance(folded.two, Rewritten)


class Behind(nn.Module):
    """What is computed of the input beside the result reaches nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        torch.sigmoid(self.norm(x + 1))
        y: Tensor = torch.relu(self.conv(x))
        return y


def test_idle_code_that_reads_what_is_gone_is_left_out() -> None:
    # The convolution behind takes in the one before it: one channel flows where four did.
    model = _random(nn.Sequential(nn.Sequential(nn.Conv2d(4, 1, 3), nn.Conv2d(1, 4, 1)), Behind()))
    folded = _folded(model)
    assert isinstance(folded[1], Rewritten)
    assert "norm" not in folded[1].convfold_forward
    assert torch.equal(folded[1].norm.running_var, model[1].norm.running_var)


def test_idle_code_that_reads_what_is_still_there_stays() -> None:
    folded = _folded(_random(nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), Behind(), nn.BatchNorm2d(2))))
    assert type(folded[2]) is Behind


class Pair(nn.Module):
    """A second result, which `Unread` takes, works on and drops."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.relu(self.left(x) + self.right(x)), torch.sigmoid(x)


class Unread(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.body = nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.SiLU())

    def forward(self, y: Tensor, more: Tensor) -> Tensor:
        self.norm(more)
        z: Tensor = self.body(y)
        return z


class Passing(nn.Module):
    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.pair, self.unread = Pair(), nn.ModuleList([Unread()])
        self.more = nn.ModuleList([nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)]) if inside else None

    def forward(self, x: Tensor) -> Tensor:
        if self.more is not None:
            x = self.more[0](x) + self.more[1](x)
        y: Tensor = self.unread[0](*self.pair(x))
        return y


@pytest.mark.parametrize("inside", [False, True])
def test_idle_code_that_reads_what_idle_code_elsewhere_computed_goes_with_it(inside: bool) -> None:
    folded = _folded(_random(nn.Sequential(nn.ReLU(), Passing(inside))))
    assert "norm" not in "".join(m.convfold_forward for m in folded.modules() if isinstance(m, Rewritten))


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 16, 1, bias=False), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y


class Excited(nn.Module):
    """A branch that is replaced as a whole, and a pooled branch that takes in its convolution too."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList([Normed()])
        self.squeeze, self.excite = nn.Conv2d(16, 2, 1), nn.Conv2d(2, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Any = 0
        for branch in self.branches:
            y += branch(x)
        gate = torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))
        return y * torch.sigmoid(self.excite(gate))  # type: ignore[no-any-return]


def test_nothing_is_put_below_a_module_that_is_replaced() -> None:
    folded = _folded(_random(Excited()))
    assert isinstance(folded.branches[0], nn.Conv2d)
    assert folded.squeeze.in_channels == 4
    assert convfold.cost(folded, X).macs < convfold.cost(Excited().double().eval(), X).macs


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layers[0](x), self.layers[1](x)


class Beside(nn.Module):
    """The sum is its own, the convolutions are not: they go with the module whose calls they were."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.conv = Listed(), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.block(x)
        return torch.relu(left + right + self.conv(x))


def test_nothing_is_put_below_a_module_that_is_removed() -> None:
    folded = _folded(_random(Beside()))
    assert [type(m) for m in folded.children()] == [nn.Conv2d, nn.Identity]


class TwoNames(nn.Module):
    """One norm under two names: behind a convolution that takes it in whole, and alone."""

    def __init__(self) -> None:
        super().__init__()
        self.sequence = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.norm = self.sequence[1]
        self.left, self.right = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.relu(self.left(x) + self.right(x))
        return torch.relu(self.sequence(y)), self.norm(torch.tanh(y))


def test_a_module_is_called_by_a_name_that_still_stands() -> None:
    model = _random(TwoNames())
    folded: Any = convfold.fold(model, X)
    assert isinstance(folded.sequence, nn.Conv2d)
    for before, after in zip(model(X), folded(X), strict=True):
        torch.testing.assert_close(after, before, rtol=0, atol=1e-12 * float(before.detach().abs().max()))
