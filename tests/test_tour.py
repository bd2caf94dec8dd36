"""docs/tour.md and docs/zh/tour.md: run as they are written, with the outputs that stand there."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

from support.scripts import script

DOCS = Path(__file__).parents[1] / "docs"
# Rounding, and with it every measured figure, may differ on another machine; counts may not.
MEASURED = re.compile(r"\d+\.\d+(?:e[+-]\d+)?|^\d+(?= of \d+ held-out)", re.MULTILINE)


@pytest.fixture(scope="module")
def tour() -> ModuleType:
    return script("make_tour")


def test_it_runs_as_written_and_prints_what_stands_there(tour: ModuleType) -> None:
    for needed in ("sklearn", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    pieces = tour.pieces((DOCS / "tour.md").read_text())
    assert len(pieces) >= 10
    printed = tour.outputs([code for code, _ in pieces])
    for (code, written), now in zip(pieces, printed, strict=True):
        assert MEASURED.sub("#", now) == MEASURED.sub("#", written), code
    everything = "".join(printed)
    assert everything.count("equal: error") == 2
    assert "360 of 360 answers are the same" in everything


def test_the_chinese_tour_has_the_same_code_and_outputs(tour: ModuleType) -> None:
    english, chinese = ((DOCS / name).read_text() for name in ("tour.md", "zh/tour.md"))
    assert tour.pieces(chinese) == tour.pieces(english)

    def targets(page: str) -> list[str]:
        return [target.removeprefix("../") for target in re.findall(r"\]\(([^)]+)\)", page)]

    assert [target for target in targets(chinese) if target != "tour.md"] == targets(english)
    assert chinese.count("\n## ") == english.count("\n## ")
