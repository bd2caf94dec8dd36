"""The objective "latency" on a measured machine: what is sure to lose is not timed, all else is as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convfold
from convfold.cost.device.law import Law
from convfold.plan.search import latency
from device.machines import LAWS, machine

X = torch.randn(1, 8, 12, 12)
SEPARABLE_IS_FAST = {
    **LAWS,
    "dense": Law(1.0, 0, 0),
    "depthwise": Law(1e-6, 0, 0),
    "pointwise": Law(1e-6, 0, 0),
    "elementwise": Law(1e-9, 0, 0),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convfold" / "latency.json"


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Callable[[], list[str]]:
    """Every operator takes one second; what was timed is read from the cache."""
    monkeypatch.setattr(latency, "_median", lambda run, device: 1.0)
    return lambda: [key.split(" | ")[2] for key in json.loads(cache.read_text())]


def separable() -> nn.Module:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    return nn.Sequential(nn.ReLU(), depthwise, nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.ReLU()).eval()


def dense(labels: list[str]) -> list[str]:
    """The 3x3 in one group: depthwise and pointwise as one."""
    return [label for label in labels if "kernel=3" in label and label.endswith(" 1")]


def test_without_a_measurement_every_candidate_is_timed(timed: Callable[[], list[str]]) -> None:
    plan = convfold.plan(separable(), X, "latency")
    assert plan.after.convolutions == 1  # one second rather than two
    assert dense(timed())


def test_what_is_sure_to_lose_is_not_timed(timed: Callable[[], list[str]]) -> None:
    machine(SEPARABLE_IS_FAST).save()
    plan = convfold.plan(separable(), X, "latency")
    assert plan.after.convolutions == 2
    assert timed()
    assert not dense(timed())


def test_a_close_call_is_decided_by_the_clock(timed: Callable[[], list[str]]) -> None:
    # Twice as long, of predictions that may both be off by half: timing has to tell, and tells otherwise.
    machine({**SEPARABLE_IS_FAST, "dense": Law(4e-6, 0, 0)}, most=1.5).save()
    assert convfold.plan(separable(), X, "latency").after.convolutions == 1
    assert dense(timed())


def test_a_measurement_of_another_precision_says_nothing(timed: Callable[[], list[str]]) -> None:
    machine(SEPARABLE_IS_FAST).save()
    assert convfold.plan(separable().double(), X.double(), "latency").after.convolutions == 1
    assert dense(timed())


def test_what_cannot_be_run_lasts_as_long_as_predicted(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def median(run: Callable[[], Any], device: torch.device) -> float:
        raise RuntimeError("not enough memory: you tried to allocate 9 bytes")

    monkeypatch.setattr(latency, "_median", median)
    with pytest.raises(RuntimeError, match="not enough memory"):
        convfold.plan(separable(), X, "latency")
    machine({**SEPARABLE_IS_FAST, "dense": Law(1e-6, 0, 0)}).save()
    assert convfold.plan(separable(), X, "latency").after.convolutions == 1
    assert not cache.exists()  # what is predicted is not kept as if it had been measured
