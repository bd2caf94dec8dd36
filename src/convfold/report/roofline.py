"""The roofline as a picture: what a machine allows at each intensity, and what operators attain; and shares of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import atan2, ceil, degrees, log, log2

from convfold.report.plots import Bar
from convfold.report.svg import COLOURS, figure, inline

__all__ = ["Series", "roofline", "shares"]

_GIGA = 1e9
_SIZE = (4.9, 4.1)  # inches


@dataclass(frozen=True)
class Series:
    """Points of one kind: FLOPs for each byte, and FLOP/s; `marker` is matplotlib's, `role` the colour's."""

    label: str
    role: str
    marker: str
    intensity: Sequence[float]
    attained: Sequence[float]


def roofline(
    name: str,
    title: str,
    peak: float,
    slopes: Sequence[tuple[str, float]],
    series: Sequence[Series],
    drop: tuple[str, float, float, float] | None = None,
) -> str:
    """Both axes logarithmic, as inline SVG: the roof of arithmetic `peak` in FLOP/s, `slopes` in bytes/s, and points.

    The first of the `slopes` is memory's, drawn as the roof; others, as a cache's, are dashed. `drop` is a remark
    beside a dotted line, at an intensity, from a roof's FLOP/s down to what is attained.
    """
    with figure(*_SIZE) as drawn:
        axes = drawn.subplots()
        points = [x for one in series for x in one.intensity]
        left, right = min(points) / 4, max(points) * 3
        lowest = min(y for one in series for y in one.attained) / _GIGA
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(lowest / 2.2, peak / _GIGA * 1.9))
        for place, (label, slope) in enumerate(slopes):
            ridge = peak / slope
            style = {"linewidth": 1.8} if place == 0 else {"linewidth": 1.1, "linestyle": (0, (4, 3))}
            shade = COLOURS["ink"] if place == 0 else COLOURS["muted"]
            axes.plot([left, ridge], [left * slope / _GIGA, peak / _GIGA], color=shade, **style)
            at = max(lowest / 2.2 * _GIGA / slope, left) * 1.12
            axes.annotate(
                f"{label} {slope / _GIGA:,.0f} GB/s",
                (at, at * slope / _GIGA),
                xytext=(0, 5),
                textcoords="offset points",
                rotation=_angle(axes.get_xlim(), axes.get_ylim()),
                rotation_mode="anchor",
                color=COLOURS["muted"],
                fontsize=8.5,
            )
        roof = peak / max(slope for _, slope in slopes)
        axes.plot([roof, right], [peak / _GIGA] * 2, color=COLOURS["ink"], linewidth=1.8)
        axes.annotate(
            f"arithmetic {peak / _GIGA:,.0f} GFLOP/s",
            (right / 1.1, peak / _GIGA),
            xytext=(0, 5),
            textcoords="offset points",
            ha="right",
            color=COLOURS["muted"],
            fontsize=8.5,
        )
        for one in series:
            heights = [value / _GIGA for value in one.attained]
            axes.scatter(
                one.intensity,
                heights,
                s=34,
                marker=one.marker,
                color=COLOURS[one.role],
                label=one.label,
                zorder=3,
                linewidth=0,
                alpha=0.9,
            )
        if drop is not None:
            remark, at, top, bottom = drop
            axes.plot([at, at], [top / _GIGA, bottom / _GIGA], color=COLOURS["accent"], linewidth=1.1, linestyle=":")
            axes.annotate(
                remark,
                (at, bottom / _GIGA),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                color=COLOURS["accent"],
                fontsize=8.5,
            )
        axes.xaxis.set_major_formatter(_plain)
        axes.yaxis.set_major_formatter(_plain)
        axes.set_xlabel("arithmetic intensity, FLOP per byte moved")
        axes.set_ylabel("attained GFLOP/s")
        axes.legend(loc="lower right", handletextpad=0.3, labelspacing=0.5)
        return inline(drawn, name, title)


def shares(name: str, title: str, rows: Sequence[Bar], xlabel: str) -> str:
    """Per row a line from an open point to a filled one, both shares of a whole, as inline SVG, over powers of 1/4."""
    with figure(*_SIZE) as drawn:
        axes = drawn.subplots()
        for height, row in enumerate(rows):
            colour = COLOURS[row.role]
            axes.plot([row.start, row.end], [height, height], color=colour, linewidth=2.2, alpha=0.45)
            axes.scatter([row.start], [height], s=34, facecolor="none", edgecolor=colour, linewidth=1.5, zorder=3)
            axes.scatter([row.end], [height], s=34, color=colour, linewidth=0, zorder=4)
        least = ceil(-log2(min(min(row.start, row.end) for row in rows)))
        parts = [4**power for power in range(least // 2 + 2)]
        axes.set(xscale="log", xlim=(1 / parts[-1], 1.15), ylim=(len(rows) - 0.5, -0.5))
        axes.set_xticks([1 / part for part in parts], ["1" if part == 1 else f"1/{part}" for part in parts])
        axes.set_xticks([], minor=True)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.tick_params(axis="y", length=0, labelcolor=COLOURS["ink"])
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(xlabel)
        return inline(drawn, name, title)


def _plain(value: float, _: object) -> str:
    return f"{value:g}"


def _angle(xlim: tuple[float, float], ylim: tuple[float, float]) -> float:
    """Degrees of a line of slope one over logarithmic axes that fill about nine tenths of the picture."""
    width, height = _SIZE[0] * 0.88 / log(xlim[1] / xlim[0]), _SIZE[1] * 0.86 / log(ylim[1] / ylim[0])
    return degrees(atan2(height, width))
