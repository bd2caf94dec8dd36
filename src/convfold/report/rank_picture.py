"""The ranks of a model as one picture file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convfold.files import atomic_path

__all__ = ["rank_picture"]

_DARK, _LIGHT = "#0f766e", "#94a3b8"


def rank_picture(path: Path, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of `RankReport.to_dict()` as a picture, PNG or SVG by its suffix. Needs matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    panels: list[tuple[str, str, str, list[tuple[float, float] | None]]] = [
        ("distance from depthwise separable", "whole kernel", "worst channel", [_separable(row) for row in rows]),
        ("rank across channels, of the full rank", "99 % of energy", "90 % of energy", [_energy(row) for row in rows]),
        ("effective rank of outputs, of the channels", "participation", "entropy", [_features(row) for row in rows]),
    ]
    panels = [panel for panel in panels if any(pair is not None for pair in panel[3])]
    style = {
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#e2e8f0",
    }
    with mpl.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(3.6 * len(panels) + 1.2, 0.24 * len(rows) + 1.6), layout="constrained")
        figure.suptitle(title)
        all_axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axes, (label, strong, weak, pairs) in zip(all_axes, panels, strict=True):
            for height, pair in enumerate(pairs):
                if pair is not None:
                    axes.plot(pair, [height] * 2, color=_LIGHT, linewidth=1.2, zorder=1)
            shown = [(height, pair) for height, pair in enumerate(pairs) if pair is not None]
            heights = [height for height, _ in shown]
            axes.scatter([pair[1] for _, pair in shown], heights, s=16, color=_LIGHT, zorder=2, label=weak)
            axes.scatter([pair[0] for _, pair in shown], heights, s=30, color=_DARK, zorder=3, label=strong)
            axes.set_xlim(0, 1.03)
            axes.set_xlabel(label)
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, handletextpad=0.1)
        all_axes[0].set_yticks(range(len(rows)), [row["layer"] or "(the model)" for row in rows])
        all_axes[0].set_ylim(len(rows) - 0.5, -0.5)
        with atomic_path(path) as beside:
            figure.savefig(beside, dpi=150)


def _separable(row: Mapping[str, Any]) -> tuple[float, float] | None:
    return None if row["separable"] is None else (row["separable"], row["worst_channel"])


def _energy(row: Mapping[str, Any]) -> tuple[float, float]:
    return row["energy"][1] / row["full"], row["energy"][0] / row["full"]


def _features(row: Mapping[str, Any]) -> tuple[float, float] | None:
    seen = row["features"]
    return None if seen is None else (seen["participation"] / seen["channels"], seen["entropy"] / seen["channels"])
