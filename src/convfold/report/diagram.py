"""An expression drawn as boxes and lines, as one self-contained SVG that suits light and dark pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape

from convfold.algebra import (
    Affine,
    AvgPool,
    Chain,
    Concat,
    Conv,
    ConvTranspose,
    Flat,
    Identity,
    Norm,
    Op,
    Pad,
    Select,
    Sum,
)

__all__ = ["diagram"]

HEIGHT, GAP, ROW, LETTER, MARGIN = 34, 22, 12, 7.4, 16
STYLE = (
    "text{fill:#24303c;font:13px ui-sans-serif,system-ui,Segoe UI,Helvetica,Arial,sans-serif;text-anchor:middle}"
    "rect{stroke-width:1.4}.conv rect{fill:#e3f2f5;stroke:#0b7285}.norm rect{fill:#fff4e0;stroke:#c77d0a}"
    ".move rect{fill:#f1f3f5;stroke:#8a99a8}.join{fill:#fff;stroke:#24303c;stroke-width:1.4}"
    ".line{fill:none;stroke:#8a99a8;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.conv rect{fill:#12333a;stroke:#5cc8dc}"
    ".norm rect{fill:#3a2c12;stroke:#e0a440}.move rect{fill:#2b3138;stroke:#6b7a89}"
    ".join{fill:#22272e;stroke:#e6edf3}.line{stroke:#6b7a89}}"
)


@dataclass(frozen=True)
class _Piece:
    """A drawing of known size; `draw` gives its SVG with the top left corner at (x, y). Lines enter and leave at
    mid-height."""

    width: float
    height: float
    draw: Callable[[float, float], str]


def _label(op: Op) -> tuple[str, str]:
    """The text in an operator's box, and its kind."""
    if isinstance(op, (Conv, ConvTranspose, AvgPool)):
        size = "×".join(str(axis.kernel) for axis in op.window)
        if isinstance(op, AvgPool):
            return f"avg {size}", "move"
        if not op.window:
            return "linear", "conv"
        name = "conv" if isinstance(op, Conv) else "transposed"
        if op.groups > 1:
            name = "depthwise" if op.groups == op.in_channels else "grouped"
        dilation = max(axis.dilation for axis in op.window)
        return f"{name} {size}" + (f", dilation {dilation}" if dilation > 1 else ""), "conv"
    if isinstance(op, Norm):
        return "BN", "norm"
    if isinstance(op, Affine):
        return ("× v" if op.shift is None else "+ b" if op.scale is None else "× v + b"), "norm"
    if isinstance(op, Pad):
        return ("crop" if any(n < 0 for pair in op.pads for n in pair) else "pad"), "move"
    if isinstance(op, Select):
        return "channels", "move"
    return type(op).__name__, "move"


def _box(op: Op) -> _Piece:
    if isinstance(op, Identity) or (isinstance(op, Pad) and not any(map(any, op.pads))):
        return _Piece(30, HEIGHT, lambda x, y: _line(x, y + HEIGHT / 2, x + 30, y + HEIGHT / 2))
    label, kind = _label(op)
    width = LETTER * len(label) + 20

    def draw(x: float, y: float) -> str:
        return (
            f'<g class="{kind}"><rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{HEIGHT}" rx="6"/>'
            f'<text x="{x + width / 2:.1f}" y="{y + HEIGHT / 2 + 4.5:.1f}">{escape(label)}</text></g>'
        )

    return _Piece(width, HEIGHT, draw)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    middle = (x1 + x2) / 2
    return f'<path class="line" d="M{x1:.1f} {y1:.1f}C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"/>'


def _row(pieces: list[_Piece]) -> _Piece:
    """One after another."""
    width = sum(piece.width for piece in pieces) + GAP * (len(pieces) - 1)
    height = max(piece.height for piece in pieces)

    def draw(x: float, y: float) -> str:
        parts, middle = [], y + height / 2
        for index, piece in enumerate(pieces):
            if index:
                parts.append(_line(x, middle, x + GAP, middle))
                x += GAP
            parts.append(piece.draw(x, middle - piece.height / 2))
            x += piece.width
        return "".join(parts)

    return _Piece(width, height, draw)


def _branches(pieces: list[_Piece], sign: str) -> _Piece:
    """Side by side, from one fork to one junction that bears `sign`."""
    inner = max(piece.width for piece in pieces)
    height = sum(piece.height for piece in pieces) + ROW * (len(pieces) - 1)
    reach, radius = 34.0, 12.0
    width = reach + inner + reach + 2 * radius

    def draw(x: float, y: float) -> str:
        parts, middle, top = [], y + height / 2, y
        junction = x + width - radius
        for piece in pieces:
            centre = top + piece.height / 2
            parts.append(_line(x, middle, x + reach, centre))
            parts.append(piece.draw(x + reach, top))
            end = x + reach + piece.width
            parts.append(_line(end, centre, x + reach + inner, centre))
            parts.append(_line(x + reach + inner, centre, junction - radius, middle))
            top += piece.height + ROW
        parts.append(f'<circle class="join" cx="{junction:.1f}" cy="{middle:.1f}" r="{radius}"/>')
        parts.append(f'<text x="{junction:.1f}" y="{middle + 4.5:.1f}">{sign}</text>')
        return "".join(parts)

    return _Piece(width, height, draw)


def _piece(op: Op) -> _Piece:
    if isinstance(op, Chain):
        return _row([_piece(part) for part in op.parts])
    if isinstance(op, Sum):
        return _branches([_piece(term) for term in op.terms], "+")
    if isinstance(op, Concat):
        return _branches([_piece(term) for term in op.terms], "[ ]")
    if isinstance(op, Flat):
        return _piece(op.inner)
    return _box(op)


def diagram(op: Op, title: str) -> str:
    """The SVG of `op`, with `title` for those who cannot see it."""
    piece = _piece(op)
    ends = _row([_Piece(8, 8, lambda x, y: ""), piece, _Piece(8, 8, lambda x, y: "")])
    width, height = ends.width + 2 * MARGIN, ends.height + 2 * MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-label="{escape(title, quote=True)}"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style>{ends.draw(MARGIN, MARGIN)}</svg>\n"
    )
