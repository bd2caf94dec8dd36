"""``convfold compare depth``: shards from end to end, a small whole, and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("scipy")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from convfold.cli import run
from convfold.studies.compare import runs as compare_runs
from support.verbs import Here, refuses, said

QUICK = ["compare", "depth", "--quick", "--workers", "1"]


def test_shards_make_their_runs_once_and_a_whole_collects_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_runs, "Workers", Here)
    options = ["--tasks", "vector-p2-k10-small", "--seeds", "1", "--out", str(tmp_path)]
    assert run([*QUICK, *options, "--shard", "2/3"]) == 0
    assert "Shard 2/3: 2 runs are finished." in said(capfd)
    log = tmp_path / "runs-2-of-3.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["name"], line["seed"]) for line in lines] == [
        ("vector-p2-k10-small/depth2/sweep", 1000),
        ("vector-p2-k10-small/depth2/sweep", 0),
    ]
    before = log.read_bytes()
    assert not (tmp_path / "report.html").exists()
    assert run([*QUICK, *options]) == 0
    text = said(capfd)
    assert "Resuming: 2 finished runs are taken from the log." in text
    assert "one output, p = 2, κ = 10, start ×0.1" in text
    assert log.read_bytes() == before
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 6
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (
        summary["command"] == f"convfold compare depth --quick --seeds 1 --tasks vector-p2-k10-small --out {tmp_path}"
    )
    page = (tmp_path / "report.html").read_text()
    assert "Is learning a product easier than learning one factor?" in page
    assert "One seed: nothing can be said" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shard", "3"], "this is no shard: got '3'"),
        (["--tasks", "network", "--shard", "1/6"], "there are more shards than work"),
        (["--seeds", "0"], "--seeds: it takes at least one: got 0"),
        (["--seeds", "1001"], "--seeds: seeds from there on choose learning rates: got 1001, expected at most 1000"),
        (["--workers", "0"], "--workers: it takes at least one: got 0"),
        (["--tasks", "cats"], "--tasks: no task is called so: got 'cats'"),
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
    refuses(["compare", "depth", "--quick", *arguments], sentence, tmp_path, capfd, monkeypatch)


def test_missing_packages_are_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convfold.studies.asked.find_spec", lambda name: None if name == "scipy" else object())
    assert run([*QUICK, "--out", str(tmp_path)]) == 2
    assert "convfold compare depth: packages are missing: got no scipy. pip install" in said(capfd)
