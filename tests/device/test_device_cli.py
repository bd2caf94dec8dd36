"""``convfold bench device``: what it prints, keeps and writes, and what it refuses; never how fast anything is."""

import json
import re
from pathlib import Path

import pytest
import torch

from convfold import cli
from convfold.cost.device.measure import Effort
from convfold.cost.device.work import KINDS
from convfold.cost.roofline import Device, stored
from convfold.studies.bench.device import study as bench_device


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # The allocator's setting would stay with the process that runs the tests.
    monkeypatch.setattr(bench_device, "steady_allocator", lambda: "as it is")
    monkeypatch.setattr(Effort, "quick", classmethod(lambda cls: cls(3, 3, 2, 0.0, 0.01)))


def test_it_prints_keeps_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "new" / "device.json", tmp_path / "device.html"
    command = ["bench", "device", "--quick", "--threads", "1", "--out", str(out), "--report", str(report)]
    threads = torch.get_num_threads()
    assert cli.run(command) == 0
    assert torch.get_num_threads() == threads
    text = capsys.readouterr().out
    for word in (*KINDS, "all", "miss", "Roofs:", "depthwise 3×3", "times what its MACs say", "saved:"):
        assert word in text
    record = json.loads(out.read_text())
    assert record["place"]["threads"] == 1
    assert record["clock"] == "time.process_time"
    assert len(record["cases"]) == 6 * len(KINDS)
    assert sum(case["held_out"] for case in record["cases"]) == 3 * len(KINDS)
    assert len(record["comparisons"]) == 4
    found = Device.load(out)
    torch.set_num_threads(1)
    try:
        assert stored() == found
    finally:
        torch.set_num_threads(threads)
    for kind in KINDS:
        assert found.errors[kind].median >= 1
        assert found.errors[kind].count == 3
    page = report.read_text()
    assert "Why depthwise is slower than its MACs say" in page
    assert page.count("<svg") == 3
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_the_factors_of_the_answer_multiply_to_what_is_explained(tmp_path: Path) -> None:
    measured = bench_device.bench_device(torch.device("cpu"), Effort.quick(), threads=1)
    for layer in measured.comparisons:
        form = "depthwise 3x3"
        roof, peak = measured.device.roof(layer.intensity(form)), measured.device.roofs.peak
        assert layer.attained("dense 3x3") <= peak
        product = (peak / roof) * (roof / layer.attained(form)) * (layer.attained("dense 3x3") / peak)
        assert product == pytest.approx(layer.slower(form), rel=1e-9)
        assert layer.macs("dense 3x3") == layer.channels * layer.macs(form)
        pair = "depthwise 3x3 + 1x1"
        assert layer.seconds(pair) == pytest.approx(layer.seconds(form) + layer.seconds("1x1"), rel=1e-12)


@pytest.mark.parametrize("name", ["tpu", "cuda:9", ""])
def test_a_device_that_is_not_here_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bench", "device", "--quick", "--device", name]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"--device names no device of this machine: got '{name}', expected cpu" in said


def test_what_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("convfold.cli.bench_device.bench_device", None)
    assert cli.run(["bench", "device", "--out", str(tmp_path / "file" / "device.json")]) == 2
    assert cli.run(["bench", "device", "--out", str(tmp_path / "x"), "--report", str(tmp_path / "x")]) == 2
    assert "Traceback" not in capsys.readouterr().err
