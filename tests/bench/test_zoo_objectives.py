"""``convfold bench zoo --objective``: folds planned for something else than MACs, and judged by it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convfold import cli
from convfold.plan.by_graph import OBJECTIVES
from convfold.studies.bench.zoo import folding as bench_zoo_folding
from convfold.studies.bench.zoo import study as bench_zoo
from convfold.studies.bench.zoo import values as bench_zoo_values
from convfold.studies.bench.zoo.models import randomise
from convfold.studies.bench.zoo.study import LOG, ZooRun, violations
from convfold.studies.bench.zoo.values import ZooSetting, measure_values

SMALL = ZooSetting(samples=2, latency=False, onnx=False, folding=False)
COST = {"macs": 10, "convolutions": 2, "operators": 5}


def separable(name: str, size: int | None, seed: int) -> tuple[nn.Module, Tensor]:
    """A depthwise and a pointwise convolution: as one, fewer operators and more MACs."""
    torch.manual_seed(seed)
    model, x = (
        nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1), nn.ReLU()).eval(),
        torch.randn(1, 4, 6, 6),
    )
    randomise(model, x, seed)
    return model, x


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (bench_zoo_values, bench_zoo_folding):
        monkeypatch.setattr(module, "prepared", separable)


@pytest.mark.parametrize(("objective", "operators"), [("macs", 3), ("ops", 2)])
def test_the_fold_that_is_measured_is_planned_for_it(objective: str, operators: int) -> None:
    setting = replace(SMALL, objective=objective)
    result = measure_values("any", setting)
    assert result["objective"] == objective
    assert result["cost"]["convfold"]["operators"] == operators
    assert result["error_float64"] <= 1e-12
    assert violations(result) == []


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_folding_is_timed_as_it_is_planned(objective: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = bench_zoo_folding.plan

    def plan(model: nn.Module, x: Any, aim: str = "macs") -> Any:
        asked.append(aim)
        return real(model, x, aim)

    monkeypatch.setattr(bench_zoo_folding, "plan", plan)
    monkeypatch.setattr(bench_zoo_folding, "_warm", lambda: None)
    monkeypatch.setattr(bench_zoo_folding, "_RUNS", 1)
    bench_zoo_folding.measure_folding("any", replace(SMALL, objective=objective))
    assert set(asked) == {objective}


def test_each_objective_is_held_to_what_it_saves() -> None:
    dear = {**COST, "macs": 11, "convolutions": 3}
    result = {"cost": {"original": COST, "convfold": dear}, "error_float64": 0.0, "untouched": True}
    assert len(violations(result)) == len(violations({**result, "objective": "macs"})) == 2
    assert violations({**result, "objective": "ops"}) == []
    slow = {**result, "cost": {"original": COST, "convfold": {**dear, "operators": 6}}}
    assert violations({**slow, "objective": "ops"}) == ["more operators than original: 6 > 5"]
    assert violations({**slow, "objective": "latency"}) == []
    assert violations({**slow, "objective": "latency", "error_float64": 1e-3}) == ["error 1.0e-03 in float64"]


def test_a_line_is_of_its_objective_and_lines_from_before_are_of_macs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    def measure(run: ZooRun, name: str) -> dict[str, Any]:
        asked.append(run.setting.objective)
        return {"failed": "not measured", "wall_seconds": 0.0}

    monkeypatch.setattr(ZooRun, "measure", measure)
    before = {key: value for key, value in asdict(SMALL).items() if key != "objective"}
    line = {"name": "a", "seed": 0, "settings": before, "result": {"failed": "not measured", "wall_seconds": 0.0}}
    (tmp_path / LOG).write_text(json.dumps(line) + "\n")
    for objective in (*OBJECTIVES, *OBJECTIVES):
        bench_zoo.bench_zoo(ZooRun(["a"], replace(SMALL, objective=objective), tmp_path), lambda *_: None)
    assert asked == ["latency", "ops"]
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["settings"].get("objective") for line in lines] == [None, "latency", "ops"]


def test_the_command_takes_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    def measure(run: ZooRun, name: str) -> dict[str, Any]:
        asked.append(run.setting.objective)
        return {**measure_values(name, run.setting), "wall_seconds": 0.0}

    monkeypatch.setattr(ZooRun, "measure", measure)
    arguments = ["bench", "zoo", "--quick", "--no-latency", "--no-onnx", "--models", "any", "--out", str(tmp_path)]
    assert cli.run([*arguments, "--objective", "ops"]) == 0
    assert cli.run(arguments) == 0
    assert asked == ["ops", "macs"]
    found = [json.loads(line)["result"] for line in (tmp_path / LOG).read_text().splitlines()]
    assert [result["objective"] for result in found] == ["ops", "macs"]
    assert found[0]["cost"]["convfold"]["operators"] < found[1]["cost"]["convfold"]["operators"]
