"""``convfold compare dynamic``: a shard from end to end, a small whole, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("scipy")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from convfold.cli import run
from support.verbs import refuses, said

QUICK = ["compare", "dynamic", "--quick", "--workers", "1"]


def test_a_shard_makes_its_runs_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shard = [*QUICK, "--seeds", "1", "--shard", "1/16", "--out", str(tmp_path)]
    assert run(shard) == 0
    assert "Shard 1/16: 3 runs are finished." in said(capfd)
    log = tmp_path / "runs-1-of-16.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["name"].split("@")[0] for line in lines] == ["digits/static/tune"] * 2 + ["digits/static/rank"]
    losses = {float(line["name"].split("@")[1]): line["result"]["validation_loss"] for line in lines[:2]}
    assert lines[2]["name"] == f"digits/static/rank@{min(losses, key=lambda rate: losses[rate]):g}"
    assert len(list((tmp_path / "models").iterdir())) == 1
    before = log.read_bytes()
    assert run(shard) == 0
    assert "3 finished runs are taken from the log" in said(capfd)
    assert log.read_bytes() == before
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_whole_comparison_collects_shards_and_reports(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = ["--seeds", "1", "--out", str(tmp_path)]
    assert run([*QUICK, *options, "--shard", "2/16"]) == 0
    said(capfd)
    assert run([*QUICK, *options]) == 0
    text = said(capfd)
    assert "Resuming: 3 finished runs" in text
    assert "double width" in text
    names = [json.loads(line)["name"] for line in (tmp_path / "runs.jsonl").read_text().splitlines()]
    assert len(names) == 16 * 3 - 3
    assert not any(name.startswith("digits/blind") for name in names)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["command"] == f"convfold compare dynamic --quick --seeds 1 --out {tmp_path}"
    assert summary["costs"]["wide"]["macs"] > 3 * summary["costs"]["static"]["macs"]
    assert "Dynamic convolutions, side by side" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shard", "3"], "this is no shard: got '3'"),
        (["--shard", "1/17"], "there are more shards than work"),
        (["--seeds", "0"], "--seeds: it takes at least one: got 0"),
        (["--workers", "0"], "--workers: it takes at least one: got 0"),
        (["--out", "/proc/nowhere"], "cannot write"),
    ],
)
def test_bad_input_is_a_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuses(["compare", "dynamic", "--quick", *arguments], sentence, tmp_path, capfd, monkeypatch)


def test_missing_packages_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convfold.studies.asked.find_spec", lambda name: None if name == "scipy" else object())
    assert run([*QUICK, "--out", str(tmp_path)]) == 2
    assert "packages are missing: got no scipy. pip install 'convfold[demo,report]'" in said(capfd)
