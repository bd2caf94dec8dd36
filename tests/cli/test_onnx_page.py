"""docs/onnx.md: its commands and its Python, run as they are written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from convfold.cli import run
from convfold.cli.models import Objective
from convfold.graph.onnx.read_operators import OLDEST
from support.onnx_small import branched, save

PAGE = (Path(__file__).parents[2] / "docs" / "onnx.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
[PYTHON] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(branched(size=16), tmp_path / "model.onnx")
    return tmp_path


def test_the_commands_run_as_written(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [shlex.split(line) for line in COMMANDS if line.startswith("convfold ")]
    assert [line[1] for line in lines] == ["plan", "fold", "verify"]
    for line in lines:
        assert run(line[1:]) == 0
    assert capfd.readouterr().err == ""


def test_the_python_runs_as_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PYTHON, "onnx.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "folded into" in printed
    assert "equal: error" in printed
    assert (here / "folded.onnx").is_file()


def test_what_the_page_lists_is_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert f"its opset is below {OLDEST} " in PAGE
    for aim in Objective:
        assert f"| `{aim.value}`" in PAGE
    assert run(["fold", "--help"]) == 0
    text = capfd.readouterr().out
    for option in re.findall(r"^\| `(--[a-z-]+)", PAGE, re.MULTILINE):
        assert option in text
