"""The two graphs of a fold, laid out side by side: what came of a region stands at the region's height.

Also the bands that tell a long graph's parts apart: stretches of layers that belong to one module.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convfold.report.graph_layers import NODE_HEIGHT, NODE_WIDTH, Layers, layered, spread
from convfold.report.graph_routes import Routes, points, routed

__all__ = ["Band", "Drawing", "Hull", "aligned", "bands", "drawing", "hulls"]

TOP, GUTTER, SIDE, SPACE = 18.0, 34.0, 14.0, 9.0
# A module of more nodes than this is told apart by its children, where those lie one below the other.
BAND = 28

# A node's module, part by part, and its height.
_Named = tuple[tuple[str, ...], float]


@dataclass(frozen=True)
class Drawing:
    """A graph with all its coordinates; a place is a node's left top corner."""

    places: Mapping[Hashable, tuple[float, float]]
    lines: Mapping[tuple[Hashable, Hashable], list[tuple[float, float]]]
    width: float
    height: float


@dataclass(frozen=True)
class Band:
    """The height from `top` to `bottom` that belongs to the modules called `name`."""

    name: str
    top: float
    bottom: float


@dataclass(frozen=True)
class Hull:
    """A box around nodes of `region` in which no other node stands."""

    region: Hashable
    x: float
    y: float
    width: float
    height: float


def drawing(graph: Mapping[str, Any]) -> Drawing:
    """One graph, as tight as it goes. Raises InvalidArgument for a cycle or an edge to a node that is not there."""
    layers, routes = _measured(graph)
    return _drawn(layers, routes, _tight(routes))


def aligned(graph: Mapping[str, Any], beside: Mapping[str, Any], drawn: Drawing) -> Drawing:
    """`graph` with each node as near as may be to the height of its region, or of itself, in `drawn` of `beside`."""
    layers, routes = _measured(graph)
    heights: dict[object, list[float]] = defaultdict(list)
    for name, node in _names(beside["nodes"]):
        heights[name].append(drawn.places[node["id"]][1])
    wishes: dict[int, list[float]] = defaultdict(list)
    for name, node in _names(graph["nodes"]):
        if name in heights:
            found = heights[name]
            wishes[layers.layer[node["id"]]].append((min(found) + max(found)) / 2)
    if not wishes:
        return _drawn(layers, routes, _tight(routes))
    tight = _tight(routes)
    known = sorted(wishes)
    means = {k: sum(found) / len(found) for k, found in wishes.items()}
    wanted, weights, near = [], [], 0
    for k in range(len(layers.rows)):
        while near + 1 < len(known) and known[near + 1] <= k:
            near += 1
        # A layer without a counterpart follows the one above it, but gives way to those that have one.
        wanted.append(means[known[near]] + tight[k] - tight[known[near]])
        weights.append(float(len(wishes[k])) if k in wishes else 1e-3)
    steps = [NODE_HEIGHT + gap for gap in routes.gaps[:-1]]
    tops = spread(wanted, steps, weights)
    return _drawn(layers, routes, [math.floor(max(top, least)) for top, least in zip(tops, tight, strict=True)])


def _measured(graph: Mapping[str, Any]) -> tuple[Layers, Routes]:
    layers = layered([node["id"] for node in graph["nodes"]], graph["edges"])
    return layers, routed(layers)


def _names(nodes: Sequence[Mapping[str, Any]]) -> Iterable[tuple[object, Mapping[str, Any]]]:
    """Each node with what it is called in both graphs: its region, or its place in its module."""
    seen: dict[tuple[object, object], int] = defaultdict(int)
    for node in nodes:
        if node.get("region") is not None:
            yield ("region", node["region"]), node
            continue
        name = (node.get("module"), node.get("operator"))
        seen[name] += 1
        yield (*name, seen[name]), node


def _tight(routes: Routes) -> list[float]:
    tops = [TOP]
    for gap in routes.gaps[:-1]:
        tops.append(tops[-1] + NODE_HEIGHT + gap)
    return tops


def _drawn(layers: Layers, routes: Routes, tops: Sequence[float]) -> Drawing:
    shift = GUTTER - routes.left
    places = {
        node: (layers.x[node] - NODE_WIDTH / 2 + shift, tops[layers.layer[node]]) for row in layers.rows for node in row
    }
    lines = {edge: [(x + shift, y) for x, y in points(edge, layers, routes, tops)] for edge in layers.edges}
    height = max((y for _, y in places.values()), default=0.0) + NODE_HEIGHT + TOP
    return Drawing(places, lines, routes.right + shift + SIDE, height)


def bands(graph: Mapping[str, Any], drawn: Drawing) -> list[Band]:
    """Disjoint stretches from top to bottom, each called by the module that it belongs to."""
    return _split([(_parts(node), drawn.places[node["id"]][1]) for node in graph["nodes"]], ())


def _parts(node: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(part for part in str(node.get("module") or "").split(".") if part)


def _split(nodes: list[_Named], name: tuple[str, ...]) -> list[Band]:
    """The bands of `nodes`, whose modules begin with `name`."""
    depth, nodes = len(name), sorted(nodes, key=lambda node: node[1])
    owner = next((parts[depth] for parts, _ in nodes if len(parts) > depth), None)
    if owner is None or (depth and len(nodes) <= BAND):
        return [_band(nodes, ".".join(name))] if nodes else []
    groups: dict[str, list[_Named]] = defaultdict(list)
    for parts, y in nodes:
        # What a module does itself, an addition say, counts with the child above it.
        owner = parts[depth] if len(parts) > depth else owner
        groups[owner].append((parts, y))
    stretches: list[list[str]] = []
    reached = -math.inf
    for child, group in groups.items():
        if group[0][1] <= reached:
            stretches[-1].append(child)
        else:
            stretches.append([child])
        reached = max(reached, group[-1][1])
    if depth and len(stretches) == 1 and len(groups) > 1:
        return [_band(nodes, ".".join(name))]
    found: list[Band] = []
    for children in stretches:
        if len(children) == 1:
            found += _split(groups[children[0]], (*name, children[0]))
        else:
            called = ".".join(name) or ", ".join(children)
            found.append(_band([node for child in children for node in groups[child]], called))
    return found


def _band(nodes: list[_Named], name: str) -> Band:
    tops = [y for _, y in nodes]
    return Band(name, min(tops) - SPACE, max(tops) + NODE_HEIGHT + SPACE)


def hulls(graph: Mapping[str, Any], drawn: Drawing) -> list[Hull]:
    """A box around each region's nodes, where no other node stands in it."""
    members: dict[Hashable, list[tuple[float, float]]] = defaultdict(list)
    for node in graph["nodes"]:
        if node.get("region") is not None:
            members[node["region"]].append(drawn.places[node["id"]])
    by_row: dict[float, list[tuple[float, Hashable]]] = defaultdict(list)
    for node in graph["nodes"]:
        x, y = drawn.places[node["id"]]
        by_row[y].append((x, node.get("region")))
    rows = sorted(by_row)
    found = []
    for region, places in members.items():
        left, right = min(x for x, _ in places), max(x for x, _ in places)
        top, bottom = min(y for _, y in places), max(y for _, y in places)
        inside = (row for row in rows if top <= row <= bottom)
        if len(places) > 1 and all(
            owner == region for row in inside for x, owner in by_row[row] if left - NODE_WIDTH < x < right + NODE_WIDTH
        ):
            box = (left - SPACE, top - SPACE, right - left + NODE_WIDTH + 2 * SPACE, bottom - top)
            found.append(Hull(region, *box[:3], box[3] + NODE_HEIGHT + 2 * SPACE))
    return found
