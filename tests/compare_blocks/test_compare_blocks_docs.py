"""The page's figures are those of results/compare-blocks.json, as its generator writes them now."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from support.scripts import script

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return script("make_compare_blocks")


def summary() -> dict[str, object]:
    ratio = {"median": 1.25}
    verdict = {
        "question": "end", "task": "sr", "arm": "doconv", "verdict": "real", "better": True,
        "mean": 0.2, "low": 0.1, "high": 0.3,
    }  # fmt: skip
    early = {**verdict, "question": "early", "verdict": "open", "mean": -0.0124, "low": None, "high": None}
    arms = {"plain": {"label": "plain", "value": {"mean": 30.126}}}
    task = {"measure": {"name": "PSNR, dB"}, "arms": arms, "step_over_plain": {"doconv": ratio}}
    return {
        "command": "convfold compare blocks", "unequal": [], "tasks": {"sr": task},
        "settings": {"sr": {"seeds": 12}}, "verdicts": [verdict, early],
    }  # fmt: skip


def test_figures_are_written_between_the_marks(generator: ModuleType) -> None:
    page = f"before\n{generator.BEGIN}\nstale\n{generator.END}\nafter\n"
    new = generator.updated(page, summary())
    assert new.startswith(f"before\n{generator.BEGIN}\n")
    assert new.endswith(f"{generator.END}\nafter\n")
    assert "stale" not in new
    assert "| `doconv` | **+0.20 (+0.10 to +0.30) real, better** |" in new
    assert "| `doconv` | −0.0124 unresolved |" in new
    assert "PSNR, dB, 12 seeds: plain 30.13." in new
    assert "| `doconv` | 1.25 |" in new
    assert generator.updated(new, summary()) == new
    assert "NOT certified" in generator.written({**summary(), "unequal": ["sr/doconv, seed 1"]})


def test_the_page_is_what_would_be_written_now(generator: ModuleType) -> None:
    page = generator.PAGE.read_text()
    assert generator.BEGIN in page
    assert generator.END in page
    if (DOCS.parent / "results" / generator.RESULTS).exists():
        stale = generator.updated(page, generator.results(generator.RESULTS)) != page
        assert not stale, "run python docs/make_compare_blocks.py"
