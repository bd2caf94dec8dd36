"""ONNX files on the command line: folded, planned, compared, shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx

import convfold
from convfold.cli import onnx_files, run
from convfold.cost.timing import Ratio
from convfold.report import latency
from support.onnx_small import CHANNELS, branched, save

SHAPE = f"1x{CHANNELS}x12x12"
TIMED = [
    latency.FileLatency("ONNX Runtime", 6.0, 2.0, Ratio(3.0, 2.9, 3.1, 7)),
    latency.FileLatency("OpenVINO", reason="it does not run these files (no such operator)"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file; nothing is timed by a real clock."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(onnx_files, "file_latencies", lambda before, after, shapes: list(TIMED))
    save(branched(), tmp_path / "net.onnx")
    return tmp_path


def kinds(path: Path) -> list[str]:
    return sorted(node.op_type for node in onnx.load(path).graph.node)


def said(capfd: pytest.CaptureFixture[str], line: list[str], code: int = 0) -> str:
    assert run(line) == code
    out, err = capfd.readouterr()
    assert err == ""
    return str(out)


def test_a_file_is_folded_and_verified(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = said(capfd, ["fold", "net.onnx", "-o", "folded.onnx", "--input", SHAPE])
    assert "equal: error" in text
    assert "random 1 1x8x12x12" in text
    assert text.splitlines()[-1].startswith("MACs 92,184 -> 82,968, convolutions 3 -> 2, operators 7 -> 4; written:")
    assert kinds(here / "folded.onnx") == ["Conv", "Flatten", "Gemm", "GlobalAveragePool", "Relu"]
    assert sorted(path.name for path in here.iterdir()) == ["folded.onnx", "net.onnx"]
    assert said(capfd, ["verify", "net.onnx", "folded.onnx"]).startswith("equal: error")
    again = said(capfd, ["fold", "folded.onnx", "-o", "again.onnx", "--input", SHAPE])
    assert "Nothing folds." in again
    assert kinds(here / "again.onnx") == kinds(here / "folded.onnx")


def test_files_that_differ_are_not_equal(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(branched(seed=1), here / "other.onnx")
    assert said(capfd, ["verify", "net.onnx", "other.onnx", "--input", SHAPE], code=1).startswith("NOT EQUAL")


def test_weights_beside_the_file_are_written_beside_the_other(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(branched(channels=32), here / "wide.onnx", apart="weights.bin")
    said(capfd, ["fold", "wide.onnx", "-o", "out.onnx", "--input", "1x32x12x12"])
    assert {"out.onnx", "out.onnx.data", "weights.bin", "wide.onnx"} <= {path.name for path in here.iterdir()}
    assert said(capfd, ["verify", "wide.onnx", "out.onnx", "--input", "1x32x12x12"]).startswith("equal")


def test_a_dry_run_writes_no_model(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = said(capfd, ["fold", "net.onnx", "--dry-run", "--input", SHAPE])
    assert "convolutions  3" in text
    assert "equal" not in text
    said(capfd, ["fold", "net.onnx", "-o", "out.onnx", "--dry-run", "--json", "told.json", "--input", SHAPE])
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "told.json"]
    told = json.loads((here / "told.json").read_text())
    assert (told["before"]["convolutions"], told["after"]["convolutions"]) == (3, 2)
    assert "certificate" not in told


def test_what_is_told_of_a_fold(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    line = ["fold", "net.onnx", "-o", "out.onnx", "--json", "told.json", "--report", "told.html", "--input", SHAPE]
    text = said(capfd, line)
    assert "ONNX Runtime: 6 ms -> 2 ms, 3.00 times as fast (2.90-3.10)" in text
    assert "OpenVINO: it does not run these files (no such operator)" in text
    told = json.loads((here / "told.json").read_text())
    assert told["model"] == "net.onnx"
    assert told["inputs"] == "x 1x8x12x12"
    assert told["certificate"]["equal"] is True
    assert told["written"] == "out.onnx"
    assert told["latency"] == [one.to_dict() for one in TIMED]
    page = (here / "told.html").read_text()
    assert 'ONNX Runtime <span class="change">3.00×</span></dt><dd>6 <span class="to">→</span> 2 ms' in page
    assert "quartiles: ONNX Runtime 2.90 to 3.10." in page
    assert "OpenVINO: it does not run these files (no such operator)." in page


def test_a_plan_is_explained(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    line = ["plan", "net.onnx", "--explain", "--json", "a.json", "--report", "a.html", "--input", SHAPE]
    text = said(capfd, [*line, "--objective", "ops"])
    assert "folded into conv 3x3 in join" in text
    assert "written: a.json\nwritten: a.html\n" in text
    told = json.loads((here / "a.json").read_text())
    assert told["objective"] == "ops"
    assert [node["text"] for node in told["graphs"]["after"]["nodes"]][2] == "Relu"
    assert sorted(path.name for path in here.iterdir()) == ["a.html", "a.json", "net.onnx"]


def test_what_is_timed_is_the_file_and_its_fold(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def watch(before: Any, after: Any, shapes: Any) -> list[Any]:
        seen.append((str(before), kinds(after).count("Conv"), dict(shapes)))
        return []

    monkeypatch.setattr(onnx_files, "file_latencies", watch)
    said(capfd, ["plan", "net.onnx", "--json", "a.json", "--input", SHAPE])
    said(capfd, ["fold", "net.onnx", "-o", "out.onnx", "--json", "b.json", "--input", SHAPE])
    assert seen == [("net.onnx", 1, {"x": (1, CHANNELS, 12, 12)})] * 2


def test_a_fold_that_is_not_equal_writes_nothing(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from convfold.verify import onnx as compare

    other, real = save(branched(seed=1), here / "other.onnx"), compare.verify_files
    monkeypatch.setattr(compare, "verify_files", lambda a, b, sizes: real(a, other, sizes))
    line = ["fold", "net.onnx", "-o", "out.onnx", "--json", "a.json", "--input", SHAPE]
    assert said(capfd, line, code=1).startswith("NOT EQUAL: net.onnx: the folded file does not compute")
    assert sorted(path.name for path in here.iterdir()) == ["net.onnx", "other.onnx"]


@pytest.mark.parametrize("given", [[(1, CHANNELS, 12, 12)], {"x": (1, CHANNELS, 12, 12)}])
def test_in_python(here: Path, given: Any) -> None:
    plan = convfold.plan_onnx("net.onnx", given)
    assert (plan.before.convolutions, plan.after.convolutions) == (3, 2)
    done = convfold.fold_onnx("net.onnx", here / "out.onnx", given)
    assert done.certificate
    assert done.plan.after == plan.after


def test_a_torch_model_is_folded_dry_and_told(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = ["tests.cli.test_verbs:wide", "--input", "1x3x12x12"]
    assert "DBBConv2d" in said(capfd, ["fold", *model, "--dry-run", "--json", "a.json"])
    assert "certificate" not in json.loads((here / "a.json").read_text())
    said(capfd, ["fold", *model, "-o", "out", "--json", "b.json"])
    told = json.loads((here / "b.json").read_text())
    assert told["certificate"]["equal"] is True
    assert told["written"] == "out"
    assert told["model"] == model[0]
    assert sorted(path.name for path in here.iterdir()) == ["a.json", "b.json", "net.onnx", "out"]
