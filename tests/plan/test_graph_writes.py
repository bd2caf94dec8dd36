"""Forwards that write to what the model holds stay as they are, and still write when the model is folded."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from transform.models import noise, relative, seeded

X = noise(2, 3, 9, 9)


class Counting(nn.Module):
    """Counts its calls; its children fold, and by name something of its own that would."""

    def __init__(self, own: bool) -> None:
        super().__init__()
        self.own, self.conv, self.norm = own, nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(3, 4, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y: Tensor = self.norm(self.conv(x))
        return y + self.second(x) if self.own else y


class Counter(nn.Module):
    """Passes its input on, and counts; or is called for the count alone."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor | None = None) -> Tensor | None:
        self.calls.add_(1)
        return x


class Aside(nn.Module):
    """Two branches that would be one convolution, and a counter that is called beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.counter = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), Counter()

    def forward(self, x: Tensor) -> Tensor:
        self.counter()
        return self.left(x) + self.right(x)


class Kept(nn.Module):
    """Keeps its result as an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.norm(self.conv(x))
        return self.last


def calls(model: nn.Module) -> list[float]:
    return [float(tensor) for name, tensor in model.named_buffers() if name.endswith("calls")]


@pytest.mark.parametrize(
    ("model", "convolutions"),
    [
        (Counting(False), 1),
        (Counting(True), 2),
        (nn.Sequential(Counting(True), nn.ReLU()), 2),
        (nn.Sequential(nn.Conv2d(3, 4, 3), Counter(), nn.BatchNorm2d(4)), 1),
        (Aside(), 2),
    ],
    ids=["children", "own sum", "below", "passes", "aside"],
)
def test_the_write_survives(model: Any, convolutions: int) -> None:
    model = seeded(model)
    plan = convfold.plan(model, X)
    folded = plan.apply()
    before = calls(model)
    assert relative(folded(X), model(X)) <= 1e-12
    assert calls(folded) == calls(model) == [count + 1 for count in before]
    assert plan.after is not None
    assert plan.after.convolutions == convolutions


def test_norms_around_it_are_folded_or_listed() -> None:
    plan = convfold.plan(seeded(Counting(True)), X)
    assert [region.paths for region in plan.regions] == [("conv", "norm")]
    assert "it writes to 'calls' in its forward, which therefore stays as it is" in str(plan)


def test_a_result_that_is_kept_is_kept() -> None:
    model = seeded(Kept())
    folded: Any = convfold.fold(model, X)
    assert isinstance(folded.norm, nn.Identity)
    result = folded(X)
    assert folded.last is result
    assert relative(result, model(X)) <= 1e-12


class Stateful(nn.Module):
    """Adds what it has counted; below it stands what folds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x) + self.calls


def test_what_a_counter_adds_to_is_folded_below() -> None:
    model = seeded(Stateful())
    model.calls.zero_()
    plan = convfold.plan(model, X)
    assert "the forward reads 'calls' and writes to it, so each call computes something else" in str(plan)
    folded = plan.apply()
    assert isinstance(folded.inner[1], nn.Identity)  # type: ignore[index, union-attr]
    for _ in range(3):
        assert relative(folded(X), model(X)) <= 1e-12


class Adds(nn.Module):
    """Adds to its second argument in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        y += self.norm(self.conv(x))
        return y


class ReadsAgain(nn.Module):
    """Reads what its child has added to by the name that it gave it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.child = nn.Conv2d(3, 4, 3), Adds()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        z = self.child(x, y)
        return torch.relu(z), y


def test_what_a_child_adds_to_its_argument_is_seen_by_its_caller() -> None:
    model = seeded(ReadsAgain())
    folded = convfold.fold(model, X)
    for before, after in zip(model(X), folded(X), strict=True):
        assert relative(after, before) <= 1e-12
