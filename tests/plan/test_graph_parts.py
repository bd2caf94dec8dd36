"""Models that cannot be captured as a whole, or must not be; what is then folded, counted and said."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold.errors import InvalidArgument
from convfold.plan.emission.scope import UnknownSize
from transform.models import noise, relative, seeded

X = noise(2, 3, 9, 9)


class Branching(nn.Module):
    """The data decide which of two foldable parts runs."""

    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.high = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.bound = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.low(x)
        if y.mean() > self.bound - 1e9:
            y = y + self.high(x)
        return y


def test_where_the_data_decide_the_parts_fold_and_are_counted() -> None:
    model = seeded(Branching())
    plan = convfold.plan(model, X)
    assert [region.paths for region in plan.regions] == [("low.0", "low.1"), ("high.0", "high.1")]
    assert plan.before is not None
    assert plan.after is not None
    assert plan.before.operators - plan.after.operators == 2
    assert plan.after.macs == plan.before.macs
    text = str(plan)
    assert "Branching is not folded: " in text
    assert "test_graph_parts.py:" in text
    assert "(if y.mean() > self.bound - 1e9:)" in text
    folded = plan.apply()
    assert relative(folded(X), model(X)) <= 1e-12
    rows = plan.explain().to_dict()["operators"]
    assert [(row["module"], row["outcome"]) for row in rows if row["operator"] == "conv2d"] == [
        ("low.0", "folded into conv 3x3 in low.0"),
        ("high.0", "folded into conv 3x3 in high.0"),
    ]


def quantised() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model.register_buffer("codes", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))
    return model.eval()


def sparse() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(196, 2)).eval()
    model[2].weight = nn.Parameter(model[2].weight.detach().to_sparse())
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [(quantised, "^codes: quantised weights are not captured"), (sparse, "^2.weight: sparse weights are not captured")],
)
def test_weights_without_plain_values_end_in_a_sentence(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        convfold.plan(make(), X.float())


class Stubborn(nn.BatchNorm2d):
    """Stays in training mode."""

    def train(self, mode: bool = True) -> Any:
        return super().train(True)


@pytest.mark.parametrize(
    ("norm", "reason"),
    [
        (Stubborn(4), "it is in training mode, where it uses the statistics of each batch"),
        (nn.BatchNorm2d(4, track_running_stats=False), "it keeps no running statistics, so it is no fixed linear map"),
    ],
    ids=["training", "no statistics"],
)
def test_norms_that_are_no_fixed_map_are_listed(norm: nn.Module, reason: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, nn.ReLU()).eval()
    plan = convfold.plan(model, X.float())
    assert not plan.regions
    assert [(refusal.place, refusal.reason) for refusal in plan.refusals] == [("1", reason)]


class Merged(nn.Module):
    """Its own forward has to be written anew for its two convolutions to become one."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.left(x) + self.right(x)).relu()


def test_a_size_that_no_tensor_shows_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any) -> str:
        raise UnknownSize("s7")

    model = seeded(Merged())
    assert convfold.plan(model, X).regions
    monkeypatch.setattr(importlib.import_module("convfold.plan.emission.emit"), "source_of", unknown)
    plan = convfold.plan(model, X)
    assert not plan.regions
    (refusal,) = plan.refusals
    assert refusal.reason == "its forward cannot be written anew: no tensor in it shows the size s7"
    assert relative(plan.apply()(X), model(X)) == 0
