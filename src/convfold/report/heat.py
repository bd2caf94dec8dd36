"""Kernels as small heat maps: hue for the sign, opacity for the size, so that they work on any background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from convfold.report.svg import labelled

__all__ = ["Tile", "equation"]

CELL = 22
GAP = 2


@dataclass(frozen=True)
class Tile:
    """A small matrix with a label below it, and the sign that stands before it ("+", "=", "→" or "")."""

    label: str
    values: Sequence[Sequence[float]]
    sign: str = ""
    strong: bool = False


def equation(tiles: Sequence[Tile], title: str) -> str:
    """A row of tiles with their signs, as HTML; all share one colour scale and one frame size."""
    size = max(max(len(tile.values), len(tile.values[0])) for tile in tiles)
    largest = max(abs(value) for tile in tiles for row in tile.values for value in row) or 1.0
    parts = []
    for tile in tiles:
        sign = f'<span class="sign" aria-hidden="true">{escape(tile.sign)}</span>' if tile.sign else ""
        kind = "tile strong" if tile.strong else "tile"
        picture = _picture(tile, size, largest, f"{title}: {tile.label}")
        parts.append(
            f'<span class="term">{sign}<span class="{kind}">{picture}<small>{escape(tile.label)}</small></span></span>'
        )
    return f'<div class="equation">{"".join(parts)}</div>'


def _picture(tile: Tile, size: int, largest: float, title: str) -> str:
    side = size * (CELL + GAP) + GAP
    top = (size - len(tile.values)) // 2
    left = (size - len(tile.values[0])) // 2
    cells = []
    for row in range(size):
        for column in range(size):
            x, y = GAP + column * (CELL + GAP), GAP + row * (CELL + GAP)
            place = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}" rx="3"'
            inside = top <= row < top + len(tile.values) and left <= column < left + len(tile.values[0])
            if not inside:
                cells.append(f'<rect {place} class="absent"/>')
                continue
            value = tile.values[row - top][column - left]
            kind = "positive" if value >= 0 else "negative"
            opacity = f"{abs(value) / largest:.3f}"
            cells.append(f'<rect {place} class="cell"/>')
            cells.append(f'<rect {place} class="{kind}" fill-opacity="{opacity}"><title>{value:+.4g}</title></rect>')
    svg = f'<svg viewBox="0 0 {side} {side}" width="{side}" height="{side}">{"".join(cells)}</svg>'
    return labelled(svg, title)
