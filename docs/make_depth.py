"""Write the outcome in docs/depth.md from results/compare-depth.json, so that no figure there is typed by hand.

python docs/make_depth.py
"""

from __future__ import annotations

from typing import Any

from marked import ROOT, filled, results

from convfold.files import write_text

PAGE = ROOT / "docs" / "depth.md"
RESULTS = "compare-depth.json"
BEGIN, END = "<!-- outcome: written by docs/make_depth.py -->", "<!-- end of outcome -->"
TITLES = {
    "best": "Steps until done, each problem at its best learning rate:",
    "shared": "Steps until done, with one learning rate for all problems of a task:",
    "equal": "Steps to 30% of the initial loss, at an equal first decrease:",
    "network": "The small CNN on digits, against depth 1:",
    "theory": "The prediction, held against descent:",
}


def outcome(found: dict[str, Any]) -> str:
    """What the study says of its figures, as lists."""
    parts = [" ".join(found["said"]["headline"])]
    for name, title in TITLES.items():
        if name in found["said"]:
            parts.append("\n".join([title, "", *(f"* {sentence}" for sentence in found["said"][name])]))
    seeds = (
        f"{found['seeds']} seeds, `{found['command']}`; Holm's correction over {len(found['comparisons'])} comparisons."
    )
    return "\n\n".join([*parts, seeds])


def updated(page: str) -> str:
    """The page with the outcome of today's results."""
    return filled(page, BEGIN, END, outcome(results(RESULTS)))


if __name__ == "__main__":
    write_text(PAGE, updated(PAGE.read_text()))
