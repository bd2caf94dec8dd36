"""Models that branch on the size of their inputs: a fold of one way is right, or says that it does not hold."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold.errors import FileProblem, InvalidArgument
from convfold.graph import example_inputs
from convfold.graph.capture import capture
from convfold.graph.conditions import SizeGuard, guarded_by
from convfold.report.graph_page import graph_page
from transform.models import noise, relative, seeded

X = noise(1, 3, 8, 8)
REFUSED = "the folded model does not hold for inputs of this size: got float64 "


class Branching(nn.Module):
    """Two convolutions and a norm, which something stands between where `small` says no."""

    def __init__(self, small: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 3)
        self.norm = nn.BatchNorm2d(5)
        self.small = small

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.norm(self.second(y if self.small(y) else y.tanh()))


class Above(nn.Module):
    """The branch is in a module that is given no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.pad, self.norm = nn.Conv2d(3, 4, 1), Even(), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.pad(self.first(x)))


class Even(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[-1] % 4 == 0 else torch.nn.functional.pad(x, (0, 1))


def is_eight(x: Tensor) -> bool:
    return x.shape[2] == 8


def is_below_ten(x: Tensor) -> bool:
    return x.shape[2] < 10


def is_counted(x: Tensor) -> bool:
    return len(range(int(x.shape[2]) // 2)) == 4


def has_root(x: Tensor) -> bool:
    return x.shape[2] ** 0.5 < 3


def is_wide(x: Tensor) -> bool:
    return x.shape[3] >= x.shape[2]


WAYS: dict[str, tuple[Callable[[], nn.Module], str, tuple[int, int], list[tuple[int, int]]]] = {
    # model, what its limits say, a size of the other way, sizes of the same way
    "equal": (lambda: Branching(is_eight), "axes 2.", (12, 12), [(8, 12)]),
    "less": (lambda: Branching(is_below_ten), "where x.shape[2] < 10.", (12, 12), [(9, 12), (6, 7)]),
    "counted": (lambda: Branching(is_counted), "fixed sizes", (12, 12), []),
    "unknown function": (lambda: Branching(has_root), "where x.shape[2] == 8.", (12, 12), [(8, 11)]),
    "two sizes": (lambda: Branching(is_wide), "x.shape[3] >= x.shape[2]", (12, 9), [(9, 9), (7, 12)]),
    "in a module without weights": (Above, "x.shape[3]", (8, 9), [(9, 8), (5, 12)]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_fold_is_right_or_says_that_it_does_not_hold(way: str) -> None:
    make, said, other, same = WAYS[way]
    model = seeded(make())
    plan = convfold.plan(model, X)
    assert plan.regions
    assert any(said in limit for limit in plan.limits), plan.limits
    folded = plan.apply()
    for size in [(8, 8), *same]:
        x = noise(2, 3, *size)
        assert relative(folded(x), model(x)) <= 1e-12
    with pytest.raises(InvalidArgument, match=REFUSED) as raised:
        folded(noise(1, 3, *other))
    assert "Fold the original with example inputs of this size" in str(raised.value)
    assert not guarded_by(model)
    assert model(noise(1, 3, *other)).isfinite().all()
    # Folded at the other size, it takes that.
    there = noise(1, 3, *other)
    assert relative(convfold.plan(model, there).apply()(there), model(there)) <= 1e-12


def test_the_plan_says_what_it_holds_for(tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    plan = convfold.plan(seeded(Branching(is_below_ten)), X)
    sentence = "Captured where x.shape[2] < 10."
    assert f"Holds for some sizes:\n  {sentence}\n  Inputs of other sizes are refused.\n" in str(plan)
    assert plan.to_dict()["limits"] == [sentence]
    assert plan.explain().to_dict()["limits"] == [sentence]
    assert "Captured where x.shape[2] &lt; 10." in graph_page(plan.explain().to_dict())
    assert "Holds for" not in str(convfold.plan(seeded(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))), X))


def test_where_nothing_folds_nothing_is_refused() -> None:
    model = seeded(nn.Sequential(Even(), nn.ReLU(), nn.Conv2d(3, 4, 1)))
    plan = convfold.plan(model, X)
    assert not plan.regions
    assert "Captured where" in str(plan)
    assert "refused" not in str(plan)
    other = noise(1, 3, 8, 9)
    assert relative(plan.apply()(other), model(other)) <= 1e-12


def test_a_copy_and_a_second_fold_hold_for_no_more() -> None:
    model = seeded(Branching(is_below_ten))
    folded = convfold.fold(model, X)
    again = convfold.fold(folded, X)
    assert repr(again) == repr(folded)
    for copied in (copy.deepcopy(folded), pickle.loads(pickle.dumps(folded)), again):
        assert relative(copied(X), model(X)) <= 1e-12
        assert len(guarded_by(copied)) == 1
        with pytest.raises(InvalidArgument, match=REFUSED):
            copied(noise(1, 3, 12, 12))


def test_a_saved_plan_holds_for_no_more(tmp_path: Path) -> None:
    model = seeded(Branching(is_below_ten))
    plan = convfold.plan(model, X)
    plan.save(tmp_path / "plan.json")
    assert json.loads(json.dumps(plan.to_dict())) == plan.to_dict()
    loaded = convfold.load_plan(tmp_path / "plan.json")
    assert loaded.limits == plan.limits
    assert loaded.to_dict() == plan.to_dict()
    fresh = loaded.apply(Branching(is_below_ten))
    fresh.load_state_dict(plan.apply().state_dict())
    fresh = fresh.double().eval()
    assert relative(fresh(X), model(X)) <= 1e-12
    with pytest.raises(InvalidArgument, match=f"{REFUSED}.*expected x.shape"):
        fresh(noise(1, 3, 12, 12))


@pytest.mark.parametrize(
    "conditions",
    [
        {"": [{"said": 1, "tree": 1}]},
        {"": [{"said": "x", "tree": ["exec", 1]}]},
        {"": [{"said": "x", "tree": ["size", 0, -1]}]},
        {"": [{"said": "x", "tree": []}]},
        {"": [{"tree": 1}]},
        [1],
    ],
)
def test_conditions_that_are_none(tmp_path: Path, conditions: Any) -> None:
    plan = convfold.plan(seeded(Branching(is_below_ten)), X)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan.to_dict(), "conditions": conditions}))
    with pytest.raises(FileProblem, match="this is no saved plan"):
        convfold.load_plan(path)


def test_a_saved_plan_with_conditions_of_no_module(tmp_path: Path) -> None:
    plan = convfold.plan(seeded(Branching(is_below_ten)), X)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan.to_dict(), "conditions": {"none": plan.to_dict()["conditions"][""]}}))
    with pytest.raises(InvalidArgument, match="none: the plan is not of this model: got no such module"):
        convfold.load_plan(path).apply(Branching(is_below_ten))


class Keyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Branching(is_below_ten)

    def forward(self, first: Tensor, *, others: dict[str, Tensor]) -> Tensor:
        return self.inner(others["x"]) + first


def test_inputs_are_told_by_name_however_they_are_passed() -> None:
    model = seeded(Keyword())
    zero = noise(1)
    plan = convfold.plan(model, {"others": {"x": X}, "first": zero})
    assert plan.limits[-1] == "Captured where others['x'].shape[2] < 10."
    folded = plan.apply()
    assert relative(folded(zero, others={"x": X}), model(zero, others={"x": X})) <= 1e-12
    for args, kwargs in [((zero,), {}), ((), {"first": zero})]:
        with pytest.raises(InvalidArgument, match=REFUSED):
            folded(*args, **kwargs, others={"x": noise(1, 3, 12, 12)})
    with pytest.raises(InvalidArgument, match=REFUSED):
        folded(zero, others={})
    with pytest.raises(TypeError):
        folded(zero)


class Parts(nn.Module):
    """Cannot be captured as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Branching(is_below_ten)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * (2 if x.sum() > 0 else 3)


def test_a_part_holds_for_its_own_sizes(tmp_path: Path) -> None:
    model = seeded(Parts())
    plan = convfold.plan(model, X)
    assert plan.limits == ("In 'inner': Captured where x.shape[2] < 10.",)
    folded = plan.apply()
    assert relative(folded(X), model(X)) <= 1e-12
    with pytest.raises(InvalidArgument, match=REFUSED):
        folded(noise(1, 3, 12, 12))
    plan.save(tmp_path / "plan.json")
    fresh = convfold.load_plan(tmp_path / "plan.json").apply(Parts())
    assert isinstance(next(iter(fresh.inner._forward_pre_hooks.values())), SizeGuard)


def test_what_was_folded_for_some_sizes_stays_inside_a_larger_model() -> None:
    inner = convfold.fold(seeded(Branching(is_below_ten)), X)
    model = nn.Sequential(inner, seeded(nn.Sequential(nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5))))
    plan = convfold.plan(model, X)
    assert "0: Conv2d is not folded: it was folded before, for some sizes only, which it checks." in str(plan)
    folded = plan.apply()
    assert relative(folded(X), model(X)) <= 1e-12
    with pytest.raises(InvalidArgument, match=REFUSED):
        folded(noise(1, 3, 12, 12))


def test_verify_compares_at_the_sizes_that_a_fold_holds_for() -> None:
    model = seeded(Branching(is_below_ten))
    certificate = convfold.verify(model, convfold.fold(model, X), X)
    assert certificate
    larger = [probe.shapes for probe in certificate.probes if probe.name == "larger map"]
    assert larger == [((1, 3, 9, 9),)]
    wide = noise(1, 3, 12, 12)
    with pytest.raises(InvalidArgument, match=r"the second model does not run on these inputs .*does not hold"):
        convfold.verify(model, convfold.fold(model, X), wide)


class Table(nn.Module):
    """An operator tells the size, no branch does."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.place = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Parameter(torch.ones(1, 4, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.first(x)) + self.place


def test_a_size_that_an_operator_fixes_is_said_too() -> None:
    model = seeded(Table())
    plan = convfold.plan(model, X)
    assert plan.limits == ("Captured at fixed sizes: tensor input 0 of shape [1, 3, 8, 8], axes 2, 3.",)
    folded = plan.apply()
    assert relative(folded(noise(3, 3, 8, 8)), model(noise(3, 3, 8, 8))) <= 1e-12
    with pytest.raises(InvalidArgument, match=REFUSED):
        folded(noise(1, 3, 12, 12))


def test_a_capture_holds_at_its_example() -> None:
    for make, *_ in WAYS.values():
        model = seeded(make())
        captured = capture(model, example_inputs(model, X))
        assert captured.conditions
        assert all(condition.holds([X]) for condition in captured.conditions)
        assert not all(condition.holds([]) for condition in captured.conditions)
