"""How a layered graph's edges run: straight down where they can, else through gaps between the layers and lanes.

A long edge goes down a column that is free of nodes all the way, or else in a lane beside the nodes that it passes, the
shortest nearest to them. All long edges of a value share its lane; all edges into a value end on its top. Horizontal
parts lie in the gaps, on tracks, so that two values' lines never run on top of each other there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from convfold.report.graph_layers import NODE_HEIGHT, NODE_WIDTH, Layers

__all__ = ["Routes", "path", "points", "routed"]

LANE, TRACK, MARGIN, LEAST_GAP, CORNER = 10, 7, 13, 30, 6
_CLEAR = NODE_WIDTH / 2 + 8


@dataclass
class Routes:
    """Where long edges go down (by source), on which track of which gap an edge runs, and each gap's height.

    Gap k is below layer k. A track is named by the value at its one end: ("from", source) or ("to", target).
    """

    lane: dict[Hashable, float] = field(default_factory=dict)
    track: dict[tuple[int, str, Hashable], int] = field(default_factory=dict)
    gaps: list[float] = field(default_factory=list)
    left: float = 0.0
    right: float = 0.0


def _free(x: float, span: range, layers: Layers, taken: Sequence[list[float]]) -> bool:
    return all(
        all(abs(layers.x[node] - x) >= _CLEAR for node in layers.rows[k])
        and all(abs(other - x) >= LANE for other in taken[k])
        for k in span
    )


def _lanes(layers: Layers) -> dict[Hashable, float]:
    last: dict[Hashable, Hashable] = {}
    for start, end in layers.edges:
        if layers.layer[end] - layers.layer[start] > 1 and (
            start not in last or layers.layer[end] > layers.layer[last[start]]
        ):
            last[start] = end
    taken: list[list[float]] = [[] for _ in layers.rows]
    side = [max(layers.x[node] for node in row) + NODE_WIDTH / 2 for row in layers.rows]
    lane: dict[Hashable, float] = {}
    # The shortest first: lanes then nest, and the longest lies outermost.
    for start in sorted(last, key=lambda node: (layers.layer[last[node]] - layers.layer[node], layers.layer[node])):
        first, end = layers.layer[start], layers.layer[last[start]]
        passed = range(first + 1, end)
        for x in (layers.x[start], layers.x[last[start]]):
            if _free(x, passed, layers, taken):
                break
        else:
            x = max(side[k] for k in range(first, end + 1)) + LANE
            while not _free(x, passed, layers, taken):
                x += LANE
        lane[start] = x
        for k in range(first, end + 1):
            taken[k].append(x)
            if x > side[k]:
                side[k] = x
    return lane


def _runs(layers: Layers, lane: dict[Hashable, float]) -> dict[tuple[int, str, Hashable], list[float]]:
    """Each horizontal run's name and the x of all that it joins."""
    users: dict[Hashable, int] = defaultdict(int)
    for start, _ in layers.edges:
        users[start] += 1
    runs: dict[tuple[int, str, Hashable], list[float]] = defaultdict(list)
    for start, end in layers.edges:
        first, below, a, b = layers.layer[start], layers.layer[end] - 1, layers.x[start], layers.x[end]
        if first == below:
            if a != b:
                # A fork runs on its source's track, and what only joins runs on its target's.
                runs[(first, "from", start) if users[start] > 1 else (first, "to", end)] += [a, b]
            continue
        if a != lane[start]:
            runs[first, "from", start] += [a, lane[start]]
        if b != lane[start]:
            runs[below, "to", end] += [lane[start], b]
    return runs


def routed(layers: Layers) -> Routes:
    """The routes of all edges."""
    routes = Routes(lane=_lanes(layers))
    busy: list[list[float]] = [[] for _ in layers.rows]
    runs = _runs(layers, routes.lane)
    forks = [0] * len(layers.rows)
    # Forks above joins, so that a value's way out does not run over the way into the next one.
    for name, xs in sorted(runs.items(), key=lambda run: (run[0][0], run[0][1] == "to", min(run[1]), max(run[1]))):
        gap, kind, _ = name
        ends, least = busy[gap], forks[gap] if kind == "to" else 0
        found = next((k for k in range(least, len(ends)) if ends[k] < min(xs) - LANE), len(ends))
        if found == len(ends):
            ends.append(max(xs))
        ends[found] = max(xs)
        if kind == "from":
            forks[gap] = len(ends)
        routes.track[name] = found
    routes.gaps = [float(max(LEAST_GAP, 2 * MARGIN + TRACK * (len(ends) - 1))) for ends in busy]
    xs = [*layers.x.values()]
    routes.left = min([x - NODE_WIDTH / 2 for x in xs] + [*routes.lane.values()], default=0.0)
    routes.right = max([x + NODE_WIDTH / 2 for x in xs] + [*routes.lane.values()], default=0.0)
    return routes


def points(
    edge: tuple[Hashable, Hashable], layers: Layers, routes: Routes, tops: Sequence[float]
) -> list[tuple[float, float]]:
    """The corners of an edge's line from its source's foot to its target's top; never upwards."""
    start, end = edge
    first, below = layers.layer[start], layers.layer[end] - 1
    a, b = layers.x[start], layers.x[end]

    def level(gap: int, kind: str, node: Hashable) -> float:
        # Forks hang from the layer above and joins stand on the layer below: a stretched gap is empty in between.
        top, tracks = tops[gap] + NODE_HEIGHT, routes.track[gap, kind, node]
        if kind == "from":
            return top + MARGIN + TRACK * tracks
        return tops[gap + 1] - routes.gaps[gap] + MARGIN + TRACK * tracks

    line = [(a, tops[first] + NODE_HEIGHT)]
    if first == below:
        if a != b:
            name = (first, "from", start) if (first, "from", start) in routes.track else (first, "to", end)
            y = level(*name)
            line += [(a, y), (b, y)]
    else:
        x = routes.lane[start]
        if a != x:
            y = level(first, "from", start)
            line += [(a, y), (x, y)]
        if b != x:
            y = level(below, "to", end)
            line += [(x, y), (b, y)]
    return [*line, (b, tops[below + 1])]


def path(line: Sequence[tuple[float, float]]) -> str:
    """An SVG path along `line`, its corners rounded."""
    x, y = line[0]
    drawn = [f"M{x:g} {y:g}"]
    for (x0, y0), (x1, y1), (x2, y2) in zip(line, line[1:], line[2:], strict=False):
        before, after = abs(x1 - x0) + abs(y1 - y0), abs(x2 - x1) + abs(y2 - y1)
        radius = min(CORNER, before / 2, after / 2)
        if radius <= 0:
            continue
        enter = (x1 - radius * (x1 - x0) / before, y1 - radius * (y1 - y0) / before)
        leave = (x1 + radius * (x2 - x1) / after, y1 + radius * (y2 - y1) / after)
        drawn.append(f"L{enter[0]:g} {enter[1]:g}Q{x1:g} {y1:g} {leave[0]:g} {leave[1]:g}")
    drawn.append(f"L{line[-1][0]:g} {line[-1][1]:g}")
    return "".join(drawn)
