"""docs/lower.md: its Python, its file of rules and its tables, held against what is there."""

import re
from pathlib import Path

import convfold.transform.lower as package
from convfold.transform.lower import Channels, MaxKernel, Square, find_target, targets
from convfold.transform.lower.rules import RULES

PAGE = (Path(__file__).parents[2] / "docs" / "lower.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


def rows(heading: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0], re.M)


def test_the_code_runs_as_it_is_written() -> None:
    for code in blocks("python"):
        exec(code, {"print": str})


def test_every_target_and_every_rule_has_its_row() -> None:
    assert sorted(rows("Targets")) == targets()
    assert rows("Rules") == list(RULES)


def test_the_file_of_rules_is_one(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    path.write_text(blocks("toml")[0])
    assert find_target(path).rules == (MaxKernel(3), Square(), Channels(8))


def test_what_the_page_imports_is_public() -> None:
    assert {"Target", "MaxKernel", "Square", "Channels", "targets"} <= set(package.__all__)
