"""The comparison of depths as tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from convfold.studies.compare.depth.arms import NETWORK, arms_of
from convfold.studies.compare.depth.network import ARMS
from convfold.studies.compare.depth.problems import TASKS
from convfold.studies.compare.depth.results import Results
from convfold.studies.compare.depth.words import factor
from convfold.studies.words import p_text, signed

__all__ = ["tables"]


def tables(results: Results) -> list[Table]:
    """Steps at the best rates, one row a task; then the network."""
    found = [_chains(results)] if results.chains else []
    return found + ([_network(results)] if NETWORK in results.tasks else [])


def _new(title: str, caption: str) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=title, caption=caption)


def _chains(results: Results) -> Table:
    shown = _new(
        f"Steps to the level over depth 1's, best rates, {results.seeds} seeds",
        f"* resolved: p < 0.05, paired, Holm over {len(results.comparisons)} comparisons",
    )
    shown.add_column("task", no_wrap=True)
    for arm in arms_of(results.chains[0])[1:]:
        shown.add_column(ARMS[arm], justify="right", no_wrap=True)
    for task in results.chains:
        cells = [results.comparisons[task, arm, "best"] for arm in arms_of(task)[1:]]
        shown.add_row(TASKS[task].label, *(f"{factor(one.ratio)}{' *' if one.sign else '  '}" for one in cells))
    return shown


def _network(results: Results) -> Table:
    shown = _new(f"CNN on digits, {results.seeds} seeds", "p: paired, after Holm")
    shown.add_column("convolutions", no_wrap=True)
    for title in ("rate", "loss", "p", "error %", "- depth 1", "p"):
        shown.add_column(title, justify="right", no_wrap=True)
    for arm in arms_of(NETWORK):
        error = sum(results.values(NETWORK, arm, "error")) / results.seeds
        row = [ARMS[arm], f"{results.network_rates[arm]:.3g}"]
        if arm == arms_of(NETWORK)[0]:
            shown.add_row(*row, "", "", f"{error:.2f}", "", "")
            continue
        loss, wrong = (results.comparisons[NETWORK, arm, question] for question in ("loss", "error"))
        shown.add_row(
            *row, factor(loss.ratio), p_text(loss.difference.adjusted), f"{error:.2f}", signed(wrong.difference.mean),
            p_text(wrong.difference.adjusted),
        )  # fmt: skip
    return shown
