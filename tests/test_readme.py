"""The README's tour, run as it is written, and its table of blocks held against the code."""

import re
from pathlib import Path

import pytest

from convfold import blocks
from support.scripts import script

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_tour_runs_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) >= 5
    names: dict[str, object] = {}
    for piece in code:
        exec(compile(piece, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "DBBConv2d" in printed
    assert "equal: error" in printed


def test_the_table_lists_every_block() -> None:
    section = README.split("## Blocks")[1].split("## Figures")[0]
    listed = re.findall(r"^\| \[`(\w+)`\]\((\S+)\) \|", section, re.MULTILINE)
    assert listed == [(name, f"docs/blocks/{name}.md") for name in blocks.names()]


def test_the_figures_are_those_of_the_results() -> None:
    figures = script("figures")
    assert "| `dbb` |" in README
    assert figures.updated(README) == README
