"""The comparison's results as tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from convfold.studies.compare.dynamic.arms import STATIC, label
from convfold.studies.compare.dynamic.results import Results
from convfold.studies.words import p_text, signed

__all__ = ["tables"]


def tables(results: Results) -> list[Table]:
    """One table per task, arms in the order of their mean error."""
    return [_table(results, task) for task in results.tasks]


def _table(results: Results, task: str) -> Table:
    noise = results.control[0]
    plural = "seed" if results.seeds == 1 else "seeds"
    shown = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{task}: {results.seeds} {plural}, {results.test_images(task)} test images",
        caption=f"p: paired, Holm over {len(results.pairs)} comparisons; latency: CPU time of one image over static's "
        f"(static against itself {noise.low:.2f} to {noise.high:.2f})",
    )
    shown.add_column("arm", no_wrap=True)
    for title in ("error %", "- static", "d_z", "p", "MACs", "params", "latency"):
        shown.add_column(title, justify="right", no_wrap=True)
    for arm in results.ranked(task):
        pair = None if arm == STATIC else results.pair(task, arm, STATIC)
        sign = 1 if pair is None or pair.first == arm else -1
        effect = None if pair is None or pair.effect.value is None else sign * pair.effect.value
        cost = results.costs[arm]
        shown.add_row(
            label(arm),
            f"{results.error(task, arm).mean:.2f}",
            "" if pair is None else signed(pair.seen_from(arm)),
            "" if effect is None else signed(effect),
            "" if pair is None else p_text(pair.difference.adjusted),
            f"{cost.macs / 1e3:.0f}k",
            f"{cost.params / 1e3:.1f}k",
            f"{cost.single.ratio:.2f}",
        )
    return shown
