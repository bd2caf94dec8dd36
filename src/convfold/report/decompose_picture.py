"""Quality against MACs of decomposed networks, as one picture file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convfold.files import atomic_path

__all__ = ["decompose_picture"]

_WAYS = {
    "weights": ("factors of the kernels", "#94a3b8", "o"),
    "data": ("fitted to outputs", "#0f766e", "s"),
    "compressed": ("fitted, inputs as compressed", "#b45309", "^"),
}


def decompose_picture(
    path: Path, title: str, rows: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]]
) -> None:
    """Write one panel per method, from `summarise`'s rows and the networks they came from. Needs matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    methods = list(dict.fromkeys(row["method"] for row in rows))
    whole = sum(n["held_out"] for n in networks) / len(networks)
    macs = networks[0]["macs"]
    style: Any = {
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e2e8f0"
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(2.7 * max(len(methods), 2), 3.5), layout="constrained")
        seeds = f"mean of {len(networks)} seeds" if len(networks) > 1 else "one seed"
        figure.suptitle(f"{title}: held-out {networks[0]['quality']}, {seeds}; {macs:,} MACs undecomposed")
        panels = figure.subplots(1, max(len(methods), 1), sharex=True, sharey=True, squeeze=False)[0]
        for axes, method in zip(panels, methods, strict=False):
            own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["fraction"])
            for way, (label, colour, marker) in _WAYS.items():
                points = [row[way] for row in own if row[way] is not None]
                x, y = [p[0] / macs for p in points], [p[1] for p in points]
                axes.plot(x, y, color=colour, marker=marker, markersize=4, linewidth=1.4, label=label)
            x, y = [row["chosen"][0] / macs for row in own], [row["chosen"][1] for row in own]
            axes.scatter(x, y, s=70, facecolor="none", edgecolor="#0f172a", linewidth=1, zorder=4, label="chosen")
            axes.axhline(whole, color="#0f172a", linewidth=0.9, linestyle=(0, (4, 2)), label="undecomposed")
            if networks[0]["floor"] is not None:
                floor = sum(n["floor"] for n in networks) / len(networks)
                axes.axhline(floor, color="#94a3b8", linewidth=0.9, linestyle=":", label="bicubic")
            axes.set_title(method, fontsize=10)
            axes.set_xlabel("MACs, of the undecomposed")
        panels[0].set_ylabel(networks[0]["quality"])
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=8)
        with atomic_path(path) as beside:
            figure.savefig(beside, dpi=150)
