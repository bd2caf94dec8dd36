"""matplotlib figures as inline SVG without colours of their own: the page's style sheet gives them.

Every colour drawn with is a placeholder that becomes a CSS variable (or the text's own colour), so one picture is
legible in light and in dark mode and never needs a second rendering.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "figure", "inline", "labelled"]

# role -> (what matplotlib draws with, what the page reads)
_ROLES = {
    "ink": ("#010101", "currentColor"),
    "muted": ("#020202", "var(--muted)"),
    "grid": ("#030303", "var(--line)"),
    "accent": ("#040404", "var(--accent)"),
    "plain": ("#050505", "var(--plain)"),
    "control": ("#060606", "var(--control)"),
}
COLOURS = {role: drawn for role, (drawn, _) in _ROLES.items()}

_STYLE: dict[str, Any] = {
    # Text stays text, in the page's own font.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": COLOURS["ink"],
    "axes.edgecolor": COLOURS["grid"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["grid"],
    "ytick.color": COLOURS["grid"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Figure]:
    """A matplotlib figure of this size in inches, in the page's style, closed afterwards. Needs matplotlib."""
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield Figure(figsize=(width, height), layout="constrained")


def inline(drawn: Figure, name: str, title: str) -> str:
    """`drawn` as one <svg> element for use inside a page; `name` keeps its ids apart from other figures'."""
    import matplotlib as mpl  # noqa: PLC0415

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    # Ids such as "axes_1" and "text_3" are the same in every figure, and a page's ids are unique.
    text = re.sub(r'<g id="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick|\w+Collection)[\w.]*"', "<g", text)
    for drawn_colour, shown in _ROLES.values():
        text = text.replace(drawn_colour, shown)
    return labelled(re.sub(r"<svg[^>]*>", _opening, text, count=1), title)


def _opening(match: re.Match[str]) -> str:
    box = re.search(r'viewBox="([^"]*)"', match.group())
    assert box is not None
    return f'<svg viewBox="{box.group(1)}" xmlns:xlink="http://www.w3.org/1999/xlink">'


def labelled(svg: str, title: str) -> str:
    """The same element with an accessible name: what a screen reader says in the picture's place."""
    said = escape(title, quote=True)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{said}" ', 1).replace(
        ">", f"><title>{escape(title)}</title>", 1
    )
