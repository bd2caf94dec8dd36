"""docs/dynamic.md: its tables are those of results/, and its code runs."""

from __future__ import annotations

import re

import pytest

from support.scripts import DOCS, script


def test_the_tables_are_what_would_be_written_now():
    page = (DOCS / "dynamic.md").read_text()
    for name, written in (generator := script("make_dynamic")).SECTIONS.items():
        assert f"{generator.BEGIN.format(name)}\n{written()}\n{generator.END.format(name)}" in page, (
            "run python docs/make_dynamic.py"
        )


def test_the_examples_run(capsys: pytest.CaptureFixture[str]):
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", (DOCS / "dynamic.md").read_text(), re.DOTALL):
        exec(code, names)
    assert "equal" in capsys.readouterr().out
    assert names["out"].shape == (2, 32, 8, 8)
    assert "BatchNorm2d" not in repr(names["small"])
