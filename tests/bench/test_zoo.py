"""``convfold bench zoo``: what is measured, the log, and what is said."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from convfold import cli
from convfold.studies.bench.zoo import folding as bench_zoo_folding
from convfold.studies.bench.zoo import models as bench_zoo_models
from convfold.studies.bench.zoo import study as bench_zoo
from convfold.studies.bench.zoo import values as bench_zoo_values
from convfold.studies.bench.zoo import worker as bench_zoo_worker
from convfold.studies.bench.zoo.models import OWN
from convfold.studies.bench.zoo.study import LOG, ZooRun, missing, summarise, violations
from convfold.studies.bench.zoo.values import ZooSetting, measure_values

SMALL = ZooSetting(size=16, samples=2, latency=False, onnx=False, folding=False)
COST = {"macs": 10, "convolutions": 2, "operators": 5}
FINE: dict[str, Any] = {
    "cost": {"original": COST, "convfold": COST},
    "error_float64": 1e-15,
    "float32_ratio": {"convfold": 1.0},
    "untouched": True,
    "wall_seconds": 1.0,
}


# --- measuring -------------------------------------------------------------------------------------------------


def test_our_own_network_is_measured() -> None:
    result = measure_values(OWN, SMALL)
    assert result["input"] == [1, 3, 16, 16]
    assert result["cost"]["original"]["convolutions"] == 11
    assert "timm" not in result["cost"]
    assert result["error_float64"] <= 1e-12
    assert 0 < result["error_float32"]["original"] < 1e-4
    assert result["untouched"]
    assert result["where"]["threads"] == 1
    assert violations(result) == []


class Casting(nn.Module):
    """Works in float32, whatever it is given, as attention in some models does."""

    seen: ClassVar[list[torch.dtype]] = []

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).float()
        self.seen.append(y.dtype)
        return y.to(x.dtype)


def test_errors_in_float64_are_those_of_a_model_that_stays_in_float64() -> None:
    model = Casting().eval()
    with torch.no_grad():
        Casting.seen.clear()
        errors = bench_zoo_values._errors({"original": model, "convfold": model}, torch.randn(1, 3, 5, 5), 1, "macs")
    assert errors["error_float64"] == 0
    # The fold of a model in float64 is what the model is; float32 is measured as it is run.
    assert Casting.seen[-4:] == [torch.float64, torch.float64, torch.float32, torch.float32]


def test_latencies_and_nodes_are_measured() -> None:
    pytest.importorskip("onnxruntime")
    result = measure_values(OWN, replace(SMALL, latency=True, onnx=True, rounds=5, seconds=0.1))
    for found in (result["latency"]["eager"], result["latency_onnxruntime"]):
        assert set(found) == {"original", "control", "milliseconds"}
        assert found["control"]["rounds"] == 5
    assert result["onnx"]["original"]["Conv"] >= 11
    assert result["onnx"]["convfold"]["nodes"] > 0


def _wrong(change: Any) -> Any:
    """A plan whose fold is a changed copy."""

    def plan(model: nn.Module, x: torch.Tensor, objective: str) -> Any:
        def apply() -> nn.Module:
            folded = copy.deepcopy(model)
            with torch.no_grad():
                change(folded, model)
            return folded

        return SimpleNamespace(apply=apply)

    return plan


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folded, _: folded[0].weight[0].mul_(1.001), "error .* in float64"),
        (lambda folded, _: folded[0].weight[0].fill_(float("nan")), "error inf in float64"),
        (lambda folded, _: folded.append(nn.ReLU()), "more operators than original"),
        (lambda folded, _: folded.append(nn.Conv2d(32, 1, 1).to(folded[0].weight)), "more macs than original"),
        (lambda _, model: model[0].weight.add_(1), "the original was changed"),
    ],
)
def test_a_wrong_fold_is_a_violation(monkeypatch: pytest.MonkeyPatch, change: Any, sentence: str) -> None:
    monkeypatch.setattr(bench_zoo_values, "plan", _wrong(change))
    result = measure_values(OWN, SMALL)
    assert any(re.search(sentence, found) for found in violations(result)), violations(result)


class Foldable(nn.Module):
    """What timm's fold looks for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x))  # type: ignore[no-any-return]

    def fuse(self) -> nn.Module:
        return nn.utils.fusion.fuse_conv_bn_eval(self.conv, self.norm)


def test_timms_fold_stands_beside_ours_where_it_changes_something(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    monkeypatch.setattr(bench_zoo_models, "load_model", lambda name: nn.Sequential(Foldable()))
    result = measure_values("x", SMALL)
    assert result["cost"]["timm"]["operators"] == 1
    assert set(result["float32_ratio"]) == {"convfold", "timm"}
    monkeypatch.setattr(Foldable, "fuse", lambda self: 1 / 0)
    assert measure_values("x", SMALL)["timm_failed"] == "ZeroDivisionError: division by zero"


def test_the_highest_memory_is_seen_also_when_it_is_given_back() -> None:
    def work() -> None:
        torch.ones(16 * 2**20 // 4).sum()

    seconds, memory = bench_zoo_folding.peak(work)
    assert seconds > 0
    if memory is not None:
        assert 15 < memory < 40


def test_captures_are_timed_and_the_exporter_is_put_back() -> None:
    real, taken = torch.export.export, []

    def interrupted() -> None:
        with bench_zoo_folding._timed_capture(taken):
            torch.export.export(nn.ReLU(), (torch.ones(1),), strict=False)
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert torch.export.export is real
    assert len(taken) == 1
    assert taken[0] > 0


def test_folding_is_timed() -> None:
    found = bench_zoo_folding.measure_folding(OWN, SMALL)
    assert found["seconds"] > 0
    assert found["seconds_without_capture"] <= found["seconds"]
    assert bench_zoo_folding.measure_timm_folding(OWN, SMALL)["runs"] >= 1


# --- the log ---------------------------------------------------------------------------------------------------


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Instead of measuring: the names asked for; "bad" fails."""
    asked: list[str] = []

    def measure(run: ZooRun, name: str) -> dict[str, Any]:
        asked.append(name)
        return {"failed": "no reason", "wall_seconds": 0.0} if name == "bad" else FINE

    monkeypatch.setattr(ZooRun, "measure", measure)
    return asked


def _run(run: ZooRun) -> dict[str, Any]:
    return bench_zoo.bench_zoo(run, lambda name, result, left: None)


def test_what_has_a_line_is_not_measured_again(measured: list[str], tmp_path: Path) -> None:
    run = ZooRun(["a", "bad", "a"], SMALL, tmp_path)
    assert list(_run(run)) == ["a", "bad"]
    assert list(_run(replace(run, models=["bad", "b", "a"]))) == ["bad", "b", "a"]
    assert measured == ["a", "bad", "b"]
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [line["name"] for line in lines] == ["a", "bad", "b"]
    assert lines[0]["settings"] == SMALL.logged()


def test_other_settings_retry_and_again(measured: list[str], tmp_path: Path) -> None:
    run = ZooRun(["a", "bad"], SMALL, tmp_path)
    _run(run)
    _run(replace(run, setting=replace(SMALL, samples=3)))
    _run(replace(run, retry=True))
    _run(replace(run, again=True))
    assert measured == ["a", "bad", "a", "bad", "bad", "a", "bad"]


def test_a_process_that_dies_or_takes_too_long_is_a_failed_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = subprocess.Popen
    code = ["import sys; sys.exit('it is\\nill')"]
    monkeypatch.setattr(
        bench_zoo.subprocess, "Popen", lambda command, **how: real([command[0], "-c", code[0], *command[3:]], **how)
    )
    run = ZooRun(["a"], SMALL, tmp_path, limit=10)
    assert _run(run)["a"]["failed"] == "values: the process ended with code 1 ill"
    code[0] = "import time; time.sleep(60)"
    assert _run(replace(run, limit=0.5, retry=True))["a"]["failed"] == "values: not done after 0.5 s"
    code[0] = "import os; os.kill(os.getpid(), 9)"
    assert _run(replace(run, retry=True))["a"]["failed"] == "values: the process ended with code -9"


def test_a_side_measurement_that_fails_spoils_nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = {"values": {**FINE, "cost": {**FINE["cost"], "timm": COST}}, "fold": {"failed": "slow"}, "timm_fold": {}}
    monkeypatch.setattr(ZooRun, "task", lambda run, task, name: dict(told[task]))
    result = ZooRun(["a"], replace(SMALL, folding=True), tmp_path).measure("a")
    assert result["fold"] == {"failed": "slow"}
    assert violations(result) == []
    assert missing({**result, "timm_failed": "odd"}) == ["no fold: slow", "no timm: odd"]
    assert "a: no fold: slow" in str(summarise({"a": result}))


def test_the_worker_writes_its_result_or_why_there_is_none(tmp_path: Path) -> None:
    setting, out = json.dumps(asdict(SMALL)), tmp_path / "result.json"
    bench_zoo_worker.main("values", OWN, setting, str(out))
    assert json.loads(out.read_text())["cost"]["original"]["convolutions"] == 11
    bench_zoo_worker.main("values", "timm:nothing_like_it", setting, str(out))
    assert json.loads(out.read_text())["failed"].startswith("unknown model: got 'nothing_like_it'")
    bench_zoo_worker.main("nap", OWN, setting, str(out))
    assert json.loads(out.read_text()) == {"failed": "KeyError: 'nap'"}


# --- what is said ----------------------------------------------------------------------------------------------


def test_violations_name_what_is_worse_than_what() -> None:
    dear = {**COST, "macs": 11, "operators": 6}
    result = {**FINE, "cost": {"original": dear, "timm": COST, "convfold": dear}, "error_float64": float("nan")}
    assert violations(result) == [
        "more macs than timm: 11 > 10",
        "more operators than timm: 6 > 5",
        "error nan in float64",
    ]


def test_the_summary_gathers_all_models() -> None:
    results = {
        "a": FINE,
        "b": {**FINE, "error_float64": 1e-9, "float32_ratio": {"convfold": 1.4, "timm": 2.0}},
        "c": {**FINE, "float32_ratio": {"convfold": 0.9}},
        "d": {"failed": "why"},
    }
    summary = summarise(results)
    assert summary.broken == {"b": ["error 1.0e-09 in float64"], "d": ["failed: why"]}
    assert (summary.worst_float64, summary.median_ratio) == ((1e-9, "b"), 1.0)
    assert (summary.worst_ratio, summary.timm_worst_ratio) == ((1.4, "b"), (2.0, "b"))
    assert "median 1.00, worst 1.40 (b)" in str(summary)
    assert str(summarise({})).startswith("0 models, 0 with")


def test_the_command_prints_a_table_and_answers_by_its_code(
    measured: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "zoo", "--quick", "--no-latency", "--out", str(tmp_path), "--models"]
    assert cli.run([*arguments, "resnet18, TwoDBB"]) == 0
    text = capsys.readouterr().out
    assert "resnet18: fine (1 s)" in text
    assert "2 models, 0 with a violation" in text
    assert measured == ["timm:resnet18", OWN]
    assert cli.run([*arguments, "two_dbb,googlenet,torchvision:resnet18"]) == 0
    assert measured[2:] == ["torchvision:googlenet", "torchvision:resnet18"]


def test_wrong_options_are_refused(measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", "zoo", "--models", " , "]) == 2
    assert "--models names no model" in capsys.readouterr().err
    assert cli.run(["bench", "zoo", "--out", "/proc/nowhere"]) == 2
    assert "/proc/nowhere: cannot write" in capsys.readouterr().err
    assert measured == []
