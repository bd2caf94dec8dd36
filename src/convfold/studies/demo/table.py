"""The demo's results as one table for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from convfold.studies.demo.arms import PLAIN, label
from convfold.studies.demo.results import Results
from convfold.studies.words import p_text, signed

__all__ = ["table"]


def table(results: Results) -> Table:
    """One row per arm: accuracy against plain, certificates, cost before and after the fold."""
    plural = "seed" if results.seeds == 1 else "seeds"
    shown = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title=f"{results.seeds} {plural}, {results.test_images} test images",
        caption="p: paired, Holm's correction; folds, ONNX: how many are equal; latency: CPU time "
        "relative to plain folded; plain against itself "
        f"{results.control_latency.ratio:.2f} "
        f"({results.control_latency.low:.2f} to {results.control_latency.high:.2f})",
    )
    shown.add_column("arm", no_wrap=True)
    for title in ("error %", "- plain", "p", "folds", "ONNX", "MACs, k", "latency"):
        shown.add_column(title, justify="right", no_wrap=True)
    for arm in results.arms:
        network = results.networks[arm]
        pair = results.error_against_plain.get(arm)
        equal = sum(run["certificate"]["equal"] for run in results.of(arm))
        checked = network.onnx["images"] * len(network.onnx["differing"])
        shown.add_row(
            label(arm),
            f"{results.error_spread(arm).mean:.2f}",
            "" if pair is None else signed(pair.mean),
            "" if pair is None else p_text(pair.adjusted),
            f"{equal}/{results.seeds}",
            f"{100 * (1 - sum(network.onnx['differing'].values()) / checked):.4g}%",
            f"{network.wide['macs'] / 1e3:.0f}→{network.folded['macs'] / 1e3:.0f}",
            f"{network.wide_latency.ratio:.2f}→{network.folded_latency.ratio:.2f}",
            end_section=arm == PLAIN,
        )
    return shown
