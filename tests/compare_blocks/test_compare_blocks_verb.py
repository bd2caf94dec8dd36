"""``convfold compare blocks``: a dry run, a shard, a small whole, and bad input."""

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
from convfold.studies.compare.blocks.results import Results
from support.verbs import Here, refuses, said

QUICK = ["compare", "blocks", "--quick", "--tasks", "digits", "--workers", "1"]


def test_a_dry_run_trains_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, "--blocks", "doconv", "--dry-run", "--out", str(tmp_path)]) == 0
    text = said(capfd)
    # plain, its control, doconv: two rates with one seed to tune, two seeds to rank
    assert "12 runs to make" in text
    assert "2 + 2" in text
    assert (tmp_path / "runs.jsonl").read_text() == ""


def test_shards_are_collected_and_reported(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare_runs, "Workers", Here)
    options = [*QUICK, "--blocks", "doconv", "--out", str(tmp_path)]
    assert run([*options, "--shard", "1/3"]) == 0
    assert "Shard 1/3: 4 runs are finished." in said(capfd)
    names = [json.loads(line)["name"] for line in (tmp_path / "runs-1-of-3.jsonl").read_text().splitlines()]
    assert [name.split("@")[0] for name in names] == ["digits/plain/tune"] * 2 + ["digits/plain/rank"] * 2
    assert not (tmp_path / "report.html").exists()
    assert run(options) == 0
    text = said(capfd)
    assert "Resuming: 4 finished runs are taken from the log." in text
    assert "8 runs to make" in text
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 8
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["command"] == f"convfold compare blocks --quick --blocks doconv --tasks digits --out {tmp_path}"
    assert summary["unequal"] == []
    assert summary["tasks"]["digits"]["deployed"]["macs"] > 0
    assert len(list((tmp_path / "models").iterdir())) == 3
    assert "Do blocks help" in (tmp_path / "report.html").read_text()
    # Once more: nothing is left to be made, and a fold that is not equal is exit code 1.
    before = (tmp_path / "runs.jsonl").read_bytes()
    monkeypatch.setattr(Results, "unequal", property(lambda self: ["digits/doconv, seed 0"]))
    assert run(options) == 1
    text = said(capfd)
    assert "runs to make" not in text
    assert (tmp_path / "runs.jsonl").read_bytes() == before
    assert "1 runs are not certified equal: digits/doconv, seed 0." in text
    assert "are not to be trusted" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--shard", "3"], "this is no shard: got '3'"),
        (["--shard", "1/99"], "there are more shards than work"),
        (["--seeds", "0"], "--seeds: it takes at least one: got 0"),
        (["--workers", "0"], "--workers: it takes at least one: got 0"),
        (["--blocks", "dbbb"], "Did you mean dbb"),
        (["--blocks", "fire"], "this block is not compared with plain"),
        (["--blocks", ","], "there is no block to compare"),
        (["--tasks", ""], "there is no task to compare on"),
        (["--tasks", "digts"], "Did you mean digits"),
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
    refuses(["compare", "blocks", "--quick", *arguments], sentence, tmp_path, capfd, monkeypatch)


@pytest.mark.parametrize(("tasks", "package"), [("digits", "scipy"), ("sr", "skimage")])
def test_missing_packages_are_named(
    tasks: str, package: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convfold.studies.asked.find_spec", lambda name: None if name == package else object())
    assert run(["compare", "blocks", "--quick", "--tasks", tasks, "--out", str(tmp_path)]) == 2
    assert f"packages are missing: got no {package}." in said(capfd)
