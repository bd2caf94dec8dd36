"""The kinds of plot a study needs: curves with spread, dots with intervals, bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convfold.report.svg import COLOURS, figure, inline

__all__ = ["Bar", "Curve", "Dots", "bars", "curves", "dots"]

DASHED = (0, (3, 2))
MOST_TICKS = 6


@dataclass(frozen=True)
class Curve:
    """One line with a band around it; `role` is "accent", "plain" or "control"."""

    label: str
    role: str
    x: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Dots:
    """A row: single values, and a mean with its interval (None where there is none)."""

    label: str
    role: str
    values: Sequence[float]
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Bar:
    """A row of a bar chart: from `start` to `end`, as a line between two points."""

    label: str
    role: str
    start: float
    end: float


def curves(name: str, title: str, panels: Sequence[tuple[str, bool, Sequence[Curve]]], xlabel: str) -> str:
    """Panels above one another with a common x axis, each (y label, logarithmic, its curves), as inline SVG."""
    with figure(3.5, 1.75 * len(panels) + 0.35) as drawn:
        all_axes = drawn.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (ylabel, logarithmic, lines) in zip(all_axes, panels, strict=True):
            for line in lines:
                colour = COLOURS[line.role]
                style = DASHED if line.role == "control" else "solid"
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.16, linewidth=0)
                axes.plot(line.x, line.middle, color=colour, linestyle=style, label=line.label)
            if logarithmic:
                _logarithmic(axes.yaxis, [value for line in lines for value in (*line.low, *line.high)])
                axes.yaxis.set_major_formatter(_plain_number)
            axes.set_ylabel(ylabel)
            axes.xaxis.get_major_locator().set_params(integer=True)
        all_axes[0].legend(loc="upper right", handlelength=1.6, labelspacing=0.3)
        all_axes[-1].set_xlabel(xlabel)
        return inline(drawn, name, title)


def _plain_number(value: float, _: Any) -> str:
    return f"{value:g}"


def dots(
    name: str, title: str, rows: Sequence[Dots], xlabel: str, *, zero: bool = False, least: float | None = None
) -> str:
    """One row of dots per entry with mean and interval, as inline SVG.

    `zero` draws the line of no effect; `least` is the smallest value there can be, where the axis is cut off.
    """
    with figure(4.4, 0.36 * len(rows) + 0.75) as drawn:
        axes = drawn.subplots()
        for height, row in enumerate(rows):
            colour = COLOURS[row.role]
            if row.low is not None and row.high is not None:
                axes.plot([row.low, row.high], [height, height], color=colour, linewidth=5, alpha=0.3)
            axes.scatter(row.values, [height] * len(row.values), s=11, color=colour, alpha=0.7, linewidth=0, zorder=2)
            axes.scatter([row.mean], [height], s=42, color=colour, linewidth=0, zorder=3)
        if zero:
            axes.axvline(0, color=COLOURS["muted"], linewidth=0.9)
        if least is not None and axes.get_xlim()[0] < least:
            axes.set_xlim(left=least)
        _rows(axes, [row.label for row in rows])
        axes.set_xlabel(xlabel)
        return inline(drawn, name, title)


def bars(name: str, title: str, rows: Sequence[Bar], xlabel: str) -> str:
    """Per row a line from an open point to a filled one on a logarithmic axis, as inline SVG."""
    with figure(3.5, 0.32 * len(rows) + 0.75) as drawn:
        axes = drawn.subplots()
        for height, row in enumerate(rows):
            colour = COLOURS[row.role]
            axes.plot([row.start, row.end], [height, height], color=colour, linewidth=2.2, alpha=0.45)
            axes.scatter([row.start], [height], s=30, facecolor="none", edgecolor=colour, linewidth=1.5, zorder=3)
            axes.scatter([row.end], [height], s=30, color=colour, linewidth=0, zorder=4)
        _logarithmic(axes.xaxis, [value for row in rows for value in (row.start, row.end)])
        axes.xaxis.set_major_formatter(_times)
        _rows(axes, [row.label for row in rows])
        axes.set_xlabel(xlabel)
        return inline(drawn, name, title)


def _times(value: float, _: Any) -> str:
    return f"×{value:g}"


def _logarithmic(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis over `values` with ticks 1, 2, 5, 10, ...: over less than a decade there are none by default.

    Values of zero, which it cannot show, lie below its end.
    """
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / 1.15, max(max(positive), 2 * min(positive)) * 1.15
    steps = [base * 10.0**power for power in range(-9, 13) for base in (1, 2, 5)]
    shown = [step for step in steps if low <= step <= high]
    if len(shown) > MOST_TICKS:
        shown = [step for step in shown if f"{step:e}".startswith("1")]
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_ticks(shown)
    axis.set_ticks([], minor=True)
    axis.axes.set(**{f"{axis.axis_name}lim": (low, high)})


def _rows(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(len(labels) - 0.5, -0.5)
