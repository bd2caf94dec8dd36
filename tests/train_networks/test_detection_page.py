"""docs/detection.md: its Python and its commands run as they are written, with statistics at random, and its costs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from convfold.cli import run
from convfold.errors import NotEqual
from convfold.graph import example_inputs
from convfold.transform.ship.same import Reference
from support.detectors import drawn
from support.scripts import script

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "detection.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
ROWS = ("MACs", "convolutions", "operators", "parameters")
TRAINING = re.compile(r"^\.\.\.  # your training loop.*$", re.MULTILINE)


def test_the_python_runs_as_written_and_the_file_has_every_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    assert len(PYTHON) == 5
    assert len(TRAINING.findall("".join(PYTHON[:-1]))) == 1
    # In place of a training loop every parameter and statistic is drawn at random.
    names: dict[str, object] = {"__name__": "detection", "drawn": drawn}
    for piece in PYTHON[:-1]:
        exec(compile(TRAINING.sub("drawn(wide)", piece), "detection.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "p3_classes (2, 20, 8, 8)" in printed
    assert "p5_objectness (2, 1, 2, 2)" in printed
    assert re.search(r"^\d+ -> 40 convolutions$", printed, re.MULTILINE)

    # The file in ONNX Runtime, at any batch, held to the wide model's own rounding error output by output.
    session = runtime.InferenceSession(tmp_path / "detector.onnx", providers=["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    assert outputs == [f"{level}_{part}" for level in ("p3", "p4", "p5") for part in ("classes", "boxes", "objectness")]
    wide = names["wide"]
    reference = Reference(wide)  # type: ignore[arg-type]
    for size in (1, 2, 5):
        probe = torch.randn(size, 3, 64, 64)
        given = example_inputs(wide, probe)  # type: ignore[arg-type]
        found = [torch.from_numpy(value) for value in session.run(None, {"x": probe.numpy()})]
        reference.check(given, found, "detector.onnx")
    small = torch.randn(1, 3, 32, 32)
    given = example_inputs(wide, small)  # type: ignore[arg-type]
    with torch.no_grad():
        found = list(wide(small).values())  # type: ignore[operator]
    reference.check(given, found, "detector.onnx")
    for place in range(len(found)):
        wrong = [value * (1.01 if index == place else 1) for index, value in enumerate(found)]
        with pytest.raises(NotEqual, match="does not compute what the folded model does"):
            reference.check(given, wrong, "detector.onnx")
    with pytest.raises(NotEqual, match="got 8 outputs, expected 9"):
        reference.check(given, found[:-1], "detector.onnx")

    # The line that a reader changes, on the page's own model.
    line = next(line for line in PYTHON[-1].splitlines() if "expand" in line)
    exec(compile(line, "detection.md", "exec"), names)
    assert names["wide"] is not wide


def test_the_commands_run_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [shlex.split(line)[1] for line in COMMANDS] == ["plan", "fold", "verify"]
    printed = []
    for line in COMMANDS:
        assert run(shlex.split(line)[1:]) == 0, line
        printed.append(capsys.readouterr().out)
    assert all("equal: error" in text for text in printed[1:])
    # What the plain and the wide network fold to is the last row of the page's table: 100 of these 64x64 to 640x640.
    macs, *counts = re.search(r"folded, all of them\*\* \| ([\d,.]+) \| (\d+) \| (\d+) \| ([\d,]+) \|", PAGE).groups()  # type: ignore[union-attr]
    for text in (printed[0], printed[1]):
        found = [re.search(rf"^{what} +[\d,]+ +([\d,]+)$", text, re.MULTILINE) for what in ROWS]
        assert [match[1] for match in found[1:]] == counts  # type: ignore[index]
        assert f"{int(found[0][1].replace(',', '')) / 1e4:,.1f}" == macs  # type: ignore[index]


def test_the_costs_before_a_fold_are_those_of_today() -> None:
    module = script("make_detection")
    assert "\n".join((module.HEAD, *module.before())) in PAGE
