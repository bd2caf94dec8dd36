"""A decomposition, and the ranks of a model, as pages and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convfold.report.page import Fact, Figure, Figures, Page, Section, Table, Text
from convfold.report.plots import Bar, Dots, bars, dots

__all__ = ["decomposition_page", "rank_figures", "rank_page"]

_METHODS = {
    "separable": "depthwise with a multiplier, then pointwise",
    "spatial": "one axis, then the other",
    "svd": "across channels",
    "tucker": "1x1, k x k between fewer channels, 1x1",
    "cp": "1x1, one depthwise convolution per axis, 1x1",
}


def decomposition_page(model: str, told: Mapping[str, Any]) -> Page:
    """The page of a decomposition's `Report.to_dict()`. Needs matplotlib."""
    rows = [row for row in told["rows"] if row["rank"] is not None]
    kept = [row for row in told["rows"] if row["rank"] is None]
    before, after = told["macs_before"], told["macs_after"]
    facts = [
        Fact(f"{after / before - 1:+.1%}".replace("-", "−") if before else "–", "multiply-accumulates"),
        Fact(f"{len(rows)} of {len(told['rows'])}", "layers decomposed"),
        Fact(f"{max((row['error'] for row in rows), default=0):.3g}", "largest error of a layer"),
    ]
    method = told["rows"][0]["method"] if told["rows"] else ""
    over = "its output over the data" if told["samples"] else "its kernel"
    unit = "for each position of an output" if told["per_position"] else "of one forward pass"
    lead = (
        f"{model} by {method} ({_METHODS.get(method, method)}). The error of a layer is that of {over}, relative, in "
        f"the Frobenius norm. {before:,} multiply-accumulates {unit} became {after:,}."
    )
    sections = [Section("layers", "Layers", _layers(rows, bool(told["samples"])))]
    if kept:
        table = Table(("layer", "why it stays"), [(row["layer"] or "(the model)", row["reason"]) for row in kept])
        sections.append(Section("left", "Left alone", [table]))
    return Page(f"{model}, decomposed", lead, facts, sections)


def _layers(rows: Sequence[Mapping[str, Any]], with_data: bool) -> list[Text | Table | Figures]:
    if not rows:
        return [Text(["Nothing is decomposed."])]
    names = [row["layer"] or "(the model)" for row in rows]
    errors = [
        Dots(name, "accent", [row["error"]], row["bound"], None, None) for name, row in zip(names, rows, strict=True)
    ]
    costs = [
        Bar(name, "accent", 1.0, row["macs_after"] / row["macs_before"]) for name, row in zip(names, rows, strict=True)
    ]
    figures = [
        Figure(
            dots("errors", "Error of each layer", errors, "relative error", zero=True),
            "The bound (large) and the error measured (small, inside it where the bound is tight).",
            heading="Error",
        ),
        Figure(
            bars("macs", "Multiply-accumulates of each layer", costs, "multiply-accumulates, of the layer as it was"),
            "Before (open) and after (filled).",
            heading="Cost",
        ),
    ]
    head = ["layer", "becomes", "rank", "bound", "error", "MACs before", "MACs after"]
    cells = []
    for name, row in zip(names, rows, strict=True):
        rank = " × ".join(map(str, row["rank"])) if isinstance(row["rank"], list) else str(row["rank"])
        cell = [name, row["form"], rank, f"{row['bound']:.3g}", f"{row['error']:.3g}"]
        cell += [f"{row['macs_before']:,}", f"{row['macs_after']:,}"]
        if with_data:
            held = row["held_out"] or {}
            cell += [row["fitted"], *(f"{held[key]:.3g}" if key in held else "–" for key in ("data", "weights"))]
        cells.append(cell)
    if with_data:
        head += ["fitted to", "held out: data", "held out: weights"]
    return [Figures(figures), Table(head, cells)]


def rank_figures(rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The rows of `RankReport.to_dict()` as figures. Needs matplotlib."""
    names = [row["layer"] or "(the model)" for row in rows]
    figures = []
    residuals = [
        Dots(name, "accent", [row["worst_channel"]], row["separable"], None, None)
        for name, row in zip(names, rows, strict=True)
        if row["separable"] is not None
    ]
    if residuals:
        drawn = dots("separable", "Distance from depthwise separable", residuals, "relative residual", zero=True)
        caption = "Of the whole kernel (large) and of its worst input channel (small). At 0 the layer is separable."
        figures.append(Figure(drawn, caption, heading="How far from depthwise separable"))
    energies = [
        Dots(name, "plain", [row["energy"][0] / row["full"]], row["energy"][1] / row["full"], None, None)
        for name, row in zip(names, rows, strict=True)
    ]
    drawn = dots("energy", "Ranks across channels", energies, "share of the full rank", zero=True)
    caption = "The share of the full rank that holds 99 % (large) and 90 % (small) of the kernel's squared norm."
    figures.append(Figure(drawn, caption, heading="Rank across channels"))
    used = [
        Dots(
            name, "accent", [row["features"]["entropy"] / row["features"]["channels"]],
            row["features"]["participation"] / row["features"]["channels"], None, None,
        )
        for name, row in zip(names, rows, strict=True)
        if row["features"] is not None
    ]  # fmt: skip
    if used:
        drawn = dots("features", "Effective rank of the outputs", used, "share of the channels", zero=True)
        caption = "Participation ratio (large) and exponential entropy (small) of the outputs' covariance spectrum."
        figures.append(Figure(drawn, caption, heading="Effective rank of feature maps"))
    return figures


def rank_page(model: str, told: Mapping[str, Any], inputs: str) -> Page:
    """The page of `RankReport.to_dict()`; `inputs` says what the feature maps were seen on. Needs matplotlib."""
    rows = told["rows"]
    separable = sum(1 for row in rows if row["separable"] is not None and row["separable"] < 1e-6)
    facts = [Fact(str(len(rows)), "layers"), Fact(str(separable), "depthwise separable to 1e-6")]
    cells = []
    for row in rows:
        seen = row["features"]
        cells.append(
            (
                row["layer"] or "(the model)",
                f"{row['numerical']} of {row['full']}",
                f"{row['energy'][0]}, {row['energy'][1]}",
                "–" if row["separable"] is None else f"{row['separable']:.3g}",
                "–" if row["spatial"] is None else f"{row['spatial'][1]} of {row['spatial_full']}",
                "–" if seen is None else f"{seen['participation']:.1f} of {seen['channels']}",
            )
        )
    head = ("layer", "rank", "90 %, 99 %", "separable", "spatial 99 %", "features")
    sections = [Section("ranks", "Ranks", [Figures(rank_figures(rows)), Table(head, cells)])]
    lead = f"The ranks of {model}'s kernels, and of its feature maps on {inputs}."
    return Page(f"Ranks of {model}", lead, facts, sections)
