"""The correlations between channels, layer by layer: distributions as ridges, and the mean of |r| beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convfold.files import atomic_path
from convfold.report.page import Code, Fact, Figure, Figures, Page, Section, Table, Text
from convfold.report.svg import COLOURS, figure, inline

__all__ = ["Told", "correlate_page", "correlate_picture"]

# A model's name, and what `CorrelationReport.to_dict()` says of it.
Told = tuple[str, Mapping[str, Any]]

_FILE_COLOURS = ("#0f766e", "#b45309")
_PAGE_ROLES = ("accent", "control")
_MOST_NAME = 30


def _height(count: int) -> float:
    return (0.42 if count <= 20 else 0.28) * count + 1.5


def _paths(models: Sequence[Told]) -> list[str]:
    return list(dict.fromkeys(row["layer"] for _, told in models for row in told["rows"]))


def _short(path: str) -> str:
    path = path or "(the model)"
    return path if len(path) <= _MOST_NAME else f"…{path[1 - _MOST_NAME :]}"


def _ridges(axes: Any, models: Sequence[Told], colours: Sequence[str], muted: str) -> None:
    """The distribution of r over pairs, one row per layer, as high as there is room."""
    tops: dict[str, float] = {}
    for row in (row for _, told in models for row in told["rows"]):
        top = max(row["histogram"]) / max(sum(row["histogram"]), 1)
        tops[row["layer"]] = max(tops.get(row["layer"], 0.0), top)
    for (_, told), colour in zip(models, colours, strict=False):
        edges = [-1 + 2 * index / told["bins"] for index in range(told["bins"] + 1)]
        for height, row in _placed(models, told):
            total = sum(row["histogram"])
            if not total:
                continue
            line = [height - 0.85 * count / total / tops[row["layer"]] for count in row["histogram"]]
            axes.stairs(line, edges, baseline=height, fill=True, color=colour, alpha=0.25, linewidth=0)
            axes.stairs(line, edges, baseline=height, color=colour, linewidth=1.1)
    axes.axvline(0, color=muted, linewidth=0.8)
    axes.set_xlim(-1, 1)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    axes.set_xlabel("r of two channels")
    _name_rows(axes, models)


def _means(axes: Any, models: Sequence[Told], colours: Sequence[str]) -> None:
    """The mean of |r| of each layer."""
    for (name, told), colour in zip(models, colours, strict=False):
        known = [(height, row["mean_abs"]) for height, row in _placed(models, told) if row["mean_abs"] is not None]
        heights, values = [height for height, _ in known], [value for _, value in known]
        axes.plot(values, heights, color=colour, linewidth=0.9, alpha=0.6)
        axes.scatter(values, heights, s=28, color=colour, linewidth=0, zorder=3, label=name)
    axes.set_xlim(left=0)
    axes.set_xlabel("mean |r|")
    _name_rows(axes, models)


def _placed(models: Sequence[Told], told: Mapping[str, Any]) -> list[tuple[int, Mapping[str, Any]]]:
    rows = {row["layer"]: row for row in told["rows"]}
    return [(height, rows[path]) for height, path in enumerate(_paths(models)) if path in rows]


def _name_rows(axes: Any, models: Sequence[Told]) -> None:
    paths = _paths(models)
    axes.set_yticks(range(len(paths)), [_short(path) for path in paths])
    axes.set_ylim(len(paths) - 0.5, -1.05)


def _legend(drawn: Any, axes: Any, models: Sequence[Told]) -> None:
    if len(models) > 1:
        handles = axes.get_legend_handles_labels()
        drawn.legend(*handles, loc="outside lower center", ncols=len(models), frameon=False)


def correlate_picture(path: Path, title: str, models: Sequence[Told]) -> None:
    """Write one model's correlations, or two models' over one another, as PNG or SVG. Needs matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure as Drawn  # noqa: PLC0415

    style: Any = {
        "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e2e8f0"
    }  # fmt: skip
    with mpl.rc_context(style):
        drawn = Drawn(figsize=(8.2, _height(len(_paths(models)))), layout="constrained")
        drawn.suptitle(title)
        left, right = drawn.subplots(1, 2, sharey=True, width_ratios=(1.7, 1))
        _ridges(left, models, _FILE_COLOURS, "#64748b")
        _means(right, models, _FILE_COLOURS)
        _legend(drawn, right, models)
        with atomic_path(path) as beside:
            drawn.savefig(beside, dpi=150)


def correlate_page(title: str, models: Sequence[Told], seen: str) -> Page:
    """The same as a page, with its figures in a table. Needs matplotlib."""
    colours, height = [COLOURS[role] for role in _PAGE_ROLES], _height(len(_paths(models)))
    with figure(4.4, height) as drawn:
        axes = drawn.subplots()
        _ridges(axes, models, colours, COLOURS["muted"])
        ridges = inline(drawn, "ridges", f"Correlations between the channels of each layer: {title}.")
    with figure(4.4, height) as drawn:
        axes = drawn.subplots()
        _means(axes, models, colours)
        _legend(drawn, axes, models)
        means = inline(drawn, "means", f"Mean |r| of each layer: {title}.")
    facts = [Fact(_figure(told["mean_abs"]), f"mean |r| over the layers of {name}") for name, told in models]
    alone = len(models) == 1
    columns = ["layer"]
    for name, told in models:
        strong = f"|r| > {told['strong']:g}"
        columns += (
            ["channels", "constant", "mean |r|", "median", "90%", strong] if alone else [f"{name}: mean |r|", strong]
        )
    by_name = [{row["layer"]: row for row in told["rows"]} for _, told in models]
    rows = [[_short(p), *(cell for found in by_name for cell in _cells(found.get(p), alone))] for p in _paths(models)]
    said = [
        f"Pearson's correlation between every two output channels of a layer, over samples and positions of {seen}. "
        "Ridges are the distribution over pairs of channels, each layer's as high as there is room.",
        "A normalisation after the layer changes no |r|. Channels that never vary are counted as constant and left "
        "out. This describes one network each; a difference between two of them is not tested here.",
    ]
    said += [f"{name}: {told['notice']}" for name, told in models if told["notice"]]
    content: list[Text | Table | Figures | Code] = [
        Text(said),
        Figures([Figure(ridges, heading="Distribution"), Figure(means, heading="Mean")], wide=True),
        Table(columns, rows),
    ]
    return Page(
        title=title,
        eyebrow="convfold correlate",
        lead="How alike the channels of each layer are.",
        facts=facts,
        sections=[Section("layers", "Layer by layer", content)],
        footer="Made by convfold. This page is one file: it loads nothing and sends nothing.",
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cells(row: Mapping[str, Any] | None, alone: bool) -> list[str]:
    if row is None:
        return ["–"] * (6 if alone else 2)
    strong = "–" if row["strong"] is None else f"{100 * row['strong']:.1f}%"
    if not alone:
        return [_figure(row["mean_abs"]), strong]
    figures = [_figure(row[key]) for key in ("mean_abs", "median_abs", "upper_abs")]
    return [str(row["channels"]), str(row["constant"]), *figures, strong]
