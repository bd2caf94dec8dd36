"""docs/folding.md: its Python and its commands, run as they are written."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from convfold.cli import run

PAGE = (Path(__file__).parents[1] / "docs" / "folding.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own, with the page's model in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mynet.py").write_text(PYTHON[0])
    monkeypatch.delitem(sys.modules, "mynet", raising=False)
    return tmp_path


def test_the_python_runs_as_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    assert len(PYTHON) >= 9
    names: dict[str, object] = {"__name__": "mynet"}
    for piece in PYTHON:
        exec(compile(piece, "folding.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "equal: error" in printed
    assert re.search(r"convolutions +4 +3\n", printed)
    assert "folded into" in printed
    assert "stem.weight -> stem.weight" in printed
    assert {path.name for path in here.iterdir()} >= {"plan.json", "model.safetensors", "why.html"}


def test_the_commands_run_as_written(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for needed in ("jinja2", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    assert len(COMMANDS) >= 7
    for line in COMMANDS:
        words = shlex.split(line)
        assert words[0] == "convfold"
        assert run(words[1:]) == 0, line
        assert capfd.readouterr().err == ""
    names = {path.name for path in here.iterdir()}
    assert names >= {"net", "net.pt2", "net.onnx", "why.html", "why.json"}
