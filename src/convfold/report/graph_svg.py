"""A laid-out graph as inline SVG without colours of its own: classes and data attributes that the page styles."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from html import escape
from typing import Any

from convfold.report.graph_layers import NODE_HEIGHT, NODE_WIDTH
from convfold.report.graph_layout import Band, Drawing, bands, hulls
from convfold.report.graph_routes import path

__all__ = ["COLOURS", "graph_map", "graph_svg", "shortened"]

# How many colours the style sheet has for regions (classes c0, c1, ...); neighbours in the list differ.
COLOURS = 5
STRIP, EDGE = 24, 7
# Widths in pixels of DejaVu Sans, the widest of the page's fonts, at 12 px: what fits there fits everywhere.
_NARROW, _WIDE, _USUAL = {*"iljI.,:;'|! ()[]ft"}, {*"mwMW@%→≤≥×"}, 7.7
_LABEL = 480.0


def _letter(letter: str) -> float:
    return 4.7 if letter in _NARROW else 11.8 if letter in _WIDE or ord(letter) > 0x2E7F else _USUAL


def shortened(text: str, width: float, size: float = 12.0, keep_end: bool = False) -> str:
    """`text`, or with an ellipsis as much of its start (or its end) as fits in `width` pixels at this font size."""
    scale = size / 12.0
    if sum(map(_letter, text)) * scale <= width:
        return text
    room, kept = width / scale - _letter("m"), []
    for letter in reversed(text) if keep_end else text:
        room -= _letter(letter)
        if room < 0:
            break
        kept.append(letter)
    return "…" + "".join(reversed(kept)) if keep_end else "".join(kept).rstrip() + "…"


def _node(
    node: Mapping[str, Any],
    place: tuple[float, float],
    side: str,
    region: Mapping[str, Any] | None,
    left: bool,
    share: float,
    arrow: bool,
) -> str:
    x, y = place
    classes, strip, inner = ["node"], "", 10
    said = [str(node.get("text") or node.get("operator") or "operator"), str(node.get("module") or "no module")]
    if region is not None:
        classes += ["region", f"c{region['colour']}", f"o-{region['style']}"]
        inner = STRIP + 7
        said.append(f"region {region['id']}, {region['outcome']}")
        strip = (
            f'<path class="strip" d="M{EDGE - 2} 0H{STRIP}V{NODE_HEIGHT}H{EDGE - 2}Q0 {NODE_HEIGHT} 0 '
            f'{NODE_HEIGHT - EDGE + 2}V{EDGE - 2}Q0 0 {EDGE - 2} 0Z"/>'
            f'<text class="number" x="{STRIP / 2}" y="{NODE_HEIGHT / 2 + 3.5}">{escape(str(region["id"]))}</text>'
        )
    if left:
        classes.append("left")
        strip += f'<circle class="mark" cx="{NODE_WIDTH - 11}" cy="12" r="3.5"/>'
        said.append("left as it is")
    room = NODE_WIDTH - inner - 8
    title = shortened(said[0], room - 14 * left, 11.5)
    module = shortened(str(node.get("module") or ""), room, 10.5, keep_end=True)
    bar = f'<rect class="bar" x="{inner}" y="{NODE_HEIGHT - 4}" width="{share * room:.1f}" height="2.5"/>' * (share > 0)
    tip = f'<path class="tip" d="M-4 -6H4L0 0Z" transform="translate({NODE_WIDTH / 2:g} 0)"/>' * arrow
    place_of = escape(str(node["id"]), quote=True)
    owner = "" if region is None else f' data-region="{escape(str(region["id"]), quote=True)}"'
    return (
        f'<g class="{" ".join(classes)}" id="{side}-{place_of}" data-id="{place_of}"{owner} tabindex="-1" '
        f'role="button" transform="translate({x:g} {y:g})"><title>{escape(", ".join(said))}</title>'
        f'<rect class="box" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="{EDGE}"/>{strip}{bar}{tip}'
        f'<text class="what" x="{inner}" y="16.5">{escape(title)}</text>'
        f'<text class="where" x="{inner}" y="30.5">{escape(module)}</text></g>'
    )


def _band(band: Band, width: float, odd: bool) -> str:
    height = band.bottom - band.top
    parts = [f'<rect class="band{" odd" if odd else ""}" y="{band.top:g}" width="{width:g}" height="{height:g}"/>']
    name = shortened(band.name, height - 12, 11)
    # A name is said again down a long band, so that it is in sight wherever one reads.
    times = max(1, int(height // _LABEL)) if band.name else 0
    for k in range(times):
        y = band.top + height * (k + 0.5) / times
        parts.append(f'<text class="module" transform="translate(17 {y:g}) rotate(-90)">{escape(name)}</text>')
    return "".join(parts)


def graph_svg(
    graph: Mapping[str, Any],
    drawn: Drawing,
    side: str,
    title: str,
    regions: Mapping[Hashable, Mapping[str, Any]],
    left: frozenset[Hashable],
    most: float,
) -> str:
    """The graph as one <svg>: bands, hulls, lines, nodes.

    `regions` gives each region's `id`, `outcome`, `colour` and `style`; `left` are the ids of linear operators left as
    they are; `most` is the MACs that fill a node's bar.
    """
    entered = {end for _, end in drawn.lines}
    parts = [_band(band, drawn.width, bool(k % 2)) for k, band in enumerate(bands(graph, drawn))]
    for hull in hulls(graph, drawn):
        region = regions.get(hull.region)
        if region is not None:
            parts.append(
                f'<rect class="hull c{region["colour"]} o-{region["style"]}" '
                f'data-region="{escape(str(region["id"]), quote=True)}" x="{hull.x:g}" y="{hull.y:g}" '
                f'width="{hull.width:g}" height="{hull.height:g}" rx="12"/>'
            )
    for (start, end), line in drawn.lines.items():
        ends = f'data-from="{escape(str(start), quote=True)}" data-to="{escape(str(end), quote=True)}"'
        parts.append(f'<path class="edge" {ends} d="{path(line)}"/>')
    for node in graph["nodes"]:
        macs = node.get("macs") or 0
        share = (macs / most) ** 0.5 if most else 0.0
        place, region = drawn.places[node["id"]], regions.get(node.get("region"))
        parts.append(_node(node, place, side, region, node["id"] in left, share, node["id"] in entered))
    width, height = max(drawn.width, 60.0), max(drawn.height, 60.0)
    return (
        f'<svg class="graph" data-side="{side}" data-width="{width:g}" data-height="{height:g}" role="group" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'aria-label="{escape(title, quote=True)}">{"".join(parts)}</svg>'
    )


def graph_map(
    graph: Mapping[str, Any], drawn: Drawing, regions: Mapping[Hashable, Mapping[str, Any]], heights: Sequence[float]
) -> str:
    """The whole graph small: a rectangle for each node, and one for what is in sight."""
    height = max(*heights, 60.0)
    parts = []
    for node in graph["nodes"]:
        x, y = drawn.places[node["id"]]
        region = regions.get(node.get("region"))
        colour = "" if region is None else f" class='c{region['colour']}'"
        parts.append(
            f'<rect{colour} data-id="{escape(str(node["id"]), quote=True)}" x="{x:g}" y="{y - 10:g}" '
            f'width="{NODE_WIDTH}" height="{NODE_HEIGHT + 20}"/>'
        )
    return (
        f'<svg class="map" viewBox="0 0 {drawn.width:g} {height:g}" preserveAspectRatio="none" aria-hidden="true">'
        f'{"".join(parts)}<rect class="sight" x="0" y="0" width="{drawn.width:g}" height="0"/></svg>'
    )
