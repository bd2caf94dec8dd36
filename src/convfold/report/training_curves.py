"""The course of a training as one picture file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convfold.files import atomic_path

__all__ = ["training_curves"]

_DARK, _LIGHT, _WARM = "#0f766e", "#94a3b8", "#b45309"
# Up to so many epochs each is marked by a point.
_POINTS = 40


def training_curves(path: Path, title: str, records: Sequence[Mapping[str, Any]], folded_error: float | None) -> None:
    """Write loss, errors and learning rate per epoch, from the records of `convfold.train`, PNG or SVG by the suffix.

    `folded_error` is the test error of the folded network, from 0 to 1, a dotted line. Needs matplotlib.
    """
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    style: Any = {
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e2e8f0"
    }  # fmt: skip
    epochs = [record["epoch"] for record in records]
    shape: dict[str, Any] = {"linewidth": 1.6, "marker": "o" if len(epochs) <= _POINTS else "", "markersize": 3}
    with mpl.rc_context(style):
        figure = Figure(figsize=(10.5, 3.3), layout="constrained")
        figure.suptitle(title, parse_math=False)
        loss, error, rate = figure.subplots(1, 3)
        loss.plot(epochs, [record["train_loss"] for record in records], color=_LIGHT, **shape)
        loss.set_ylabel("training loss")
        train, test = ([100 * record[f"{part}_error"] for record in records] for part in ("train", "test"))
        error.plot(epochs, train, color=_LIGHT, label="training", **shape)
        error.plot(epochs, test, color=_DARK, label="test", **shape)
        if folded_error is not None:
            error.axhline(100 * folded_error, color=_WARM, linestyle=":", linewidth=1.4, label="test, folded")
        error.set_ylabel("error in %")
        error.set_ylim(bottom=0)
        error.legend(frameon=False)
        rate.plot(epochs, [record["learning_rate"] for record in records], color=_LIGHT, **shape)
        rate.set_ylabel("learning rate at the epoch's end")
        for axes in (loss, error, rate):
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        with atomic_path(path) as beside:
            figure.savefig(beside, dpi=150)
