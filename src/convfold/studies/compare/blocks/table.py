"""The comparison's results as tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from convfold.studies.compare.blocks.arms import Arm
from convfold.studies.compare.blocks.results import END, Results
from convfold.studies.compare.blocks.verdicts import verdict
from convfold.studies.compare.blocks.words import KINDS, number
from convfold.studies.words import p_text

__all__ = ["tables"]


def tables(results: Results) -> list[Table]:
    """One table per task: every arm, and of each block's arms the verdict on what is deployed."""
    return [_table(results, task) for task in results.tasks]


def _table(results: Results, task: str) -> Table:
    of = results.task(task)
    seeds = results.settings[task].seeds
    shown = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{of.title}: {of.measure.name}, {'1 seed' if seeds == 1 else f'{seeds} seeds'}",
        caption=f"p: paired, Holm over {len(results.claims[END])} comparisons",
    )
    shown.add_column("arm", no_wrap=True)
    for title in ("mean", "minus plain", "p"):
        shown.add_column(title, justify="right", no_wrap=True)
    shown.add_column("verdict", no_wrap=True)
    last = list(results.arms[task].values())[-1]
    for name, arm in results.arms[task].items():
        cells = _against(results, task, arm) if arm.is_block else ("", "", "")
        shown.add_row(
            arm.label,
            f"{results.spread(END, task, name).mean:.2f}",
            cells[0],
            cells[1],
            cells[2],
            end_section=arm is not last and not arm.is_block and _next_is_block(results, task, name),
        )
    return shown


def _next_is_block(results: Results, task: str, name: str) -> bool:
    names = list(results.arms[task])
    return results.arm(task, names[names.index(name) + 1]).is_block


def _against(results: Results, task: str, arm: Arm) -> tuple[str, str, str]:
    found = verdict(results, END, task, arm)
    difference = found.claim.difference
    kind = KINDS[found.kind]
    side = "" if found.kind == "open" else ", better" if found.better else ", worse"
    return number(difference.mean), p_text(difference.adjusted), f"{kind}{side}"
