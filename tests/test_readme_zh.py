"""README.zh-CN.md says what README.md says: the same code, blocks, links and figures."""

from __future__ import annotations

import re
from pathlib import Path

from support.scripts import script

ROOT = Path(__file__).parents[1]
ENGLISH, CHINESE = (ROOT / "README.md").read_text(), (ROOT / "README.zh-CN.md").read_text()
OWN = {"README.md", "README.zh-CN.md", "docs/zh/tour.md", "docs/tour.md"}


def code(page: str) -> list[str]:
    return re.findall(r"^```\w*\n.*?^```$", page, re.DOTALL | re.MULTILINE)


def links(page: str) -> set[str]:
    return set(re.findall(r"\]\(([^)]+)\)", page)) - OWN


def test_it_has_the_same_code_in_the_same_order() -> None:
    assert len(code(ENGLISH)) >= 7
    assert code(CHINESE) == code(ENGLISH)


def test_it_has_the_same_links_and_each_leads_somewhere() -> None:
    missing = links(ENGLISH) - links(CHINESE)
    assert not missing, f"README.zh-CN.md lacks {', '.join(sorted(missing))}"
    for target in links(CHINESE) | OWN:
        assert (ROOT / target.partition("#")[0]).exists(), target


def test_it_has_the_same_sections_tables_and_options() -> None:
    assert re.findall(r"^(#+) ", CHINESE, re.MULTILINE) == re.findall(r"^(#+) ", ENGLISH, re.MULTILINE)
    rows = [re.findall(r"^\| \[`(\w+)`\].*\| ([^|]*) \|$", page, re.MULTILINE) for page in (ENGLISH, CHINESE)]
    assert [name for name, _ in rows[0]] == [name for name, _ in rows[1]]
    for (name, options), (_, own) in zip(*rows, strict=True):
        assert re.findall(r"`\w+`", options) == re.findall(r"`\w+`", own), name


def test_its_figures_are_those_of_the_results() -> None:
    figures = script("figures")
    assert "| `dbb` |" in CHINESE
    assert "| `repvgg_a0` |" in CHINESE
    assert figures.updated(CHINESE, "zh") == CHINESE
