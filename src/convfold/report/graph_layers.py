"""Where a directed acyclic graph's nodes stand: in layers by longest path, within a layer by their neighbours.

All edges go from a layer to a later one. The same graph always gives the same places.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from convfold.errors import InvalidArgument

__all__ = ["NODE_HEIGHT", "NODE_WIDTH", "Layers", "layered", "spread"]

NODE_WIDTH, NODE_HEIGHT, COLUMN_GAP = 190, 40, 18
# Sweeps that may change a layer's order, then sweeps that only straighten.
_SORTING, _STRAIGHTENING = 3, 2


@dataclass(frozen=True)
class Layers:
    """`rows[k]` is layer k from left to right; `layer` and `x` (the centre) are by node; `edges` are unique."""

    rows: tuple[tuple[Hashable, ...], ...]
    layer: Mapping[Hashable, int]
    x: Mapping[Hashable, float]
    edges: tuple[tuple[Hashable, Hashable], ...]


def spread(wishes: Sequence[float], gaps: Sequence[float], weights: Sequence[float] | None = None) -> list[float]:
    """Increasing positions nearest to `wishes` in (weighted) least squares, `gaps[i]` or more between i and i + 1.

    Without the gaps' running sum this is isotonic regression, which pooling adjacent violators solves exactly.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    pools: list[tuple[float, float, int]] = []
    for index, wish in enumerate(wishes):
        mean, weight, size = wish - offsets[index], 1.0 if weights is None else weights[index], 1
        while pools and pools[-1][0] >= mean:
            before, heavy, many = pools.pop()
            mean = (before * heavy + mean * weight) / (heavy + weight)
            weight, size = heavy + weight, many + size
        pools.append((mean, weight, size))
    flat = [mean for mean, _, size in pools for _ in range(size)]
    return [value + offset for value, offset in zip(flat, offsets, strict=True)]


def layered(nodes: Sequence[Hashable], edges: Sequence[Sequence[Hashable]]) -> Layers:
    """`nodes` in layers. Raises InvalidArgument for an edge to a node that is not there, and for a cycle."""
    sources: dict[Hashable, list[Hashable]] = {node: [] for node in nodes}
    targets: dict[Hashable, list[Hashable]] = {node: [] for node in nodes}
    unique = tuple(dict.fromkeys((edge[0], edge[1]) for edge in edges))
    for start, end in unique:
        if start not in sources or end not in sources:
            raise InvalidArgument(
                "an edge leads from or to a node that is not in the graph",
                where="graph page",
                got=f"{start!r} -> {end!r}",
                hint="List each end of an edge among the nodes.",
            )
        sources[end].append(start)
        targets[start].append(end)
    layer = _longest_paths(sources, targets)
    rows: list[list[Hashable]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in sources:
        rows[layer[node]].append(node)
    x = _columns(rows, sources, targets)
    return Layers(tuple(map(tuple, rows)), layer, x, unique)


def _longest_paths(
    sources: Mapping[Hashable, list[Hashable]], targets: Mapping[Hashable, list[Hashable]]
) -> dict[Hashable, int]:
    """Each node's layer: one below the lowest of its sources; a source itself stands right above its first user."""
    waiting = {node: len(found) for node, found in sources.items()}
    ready = [node for node, count in waiting.items() if count == 0]
    layer: dict[Hashable, int] = {}
    for node in ready:
        layer[node] = 1 + max((layer[source] for source in sources[node]), default=-1)
        for target in targets[node]:
            waiting[target] -= 1
            if waiting[target] == 0:
                ready.append(target)
    if len(ready) < len(sources):
        stuck = next(node for node, count in waiting.items() if count)
        raise InvalidArgument(
            "the graph has a cycle",
            where="graph page",
            got=f"node {stuck!r}",
            hint="Edges go from a value to its users.",
        )
    for node, found in sources.items():
        if not found and targets[node]:
            layer[node] = min(layer[target] for target in targets[node]) - 1
    return layer


def _columns(
    rows: list[list[Hashable]],
    sources: Mapping[Hashable, list[Hashable]],
    targets: Mapping[Hashable, list[Hashable]],
) -> dict[Hashable, float]:
    """The centres: each node's wish is the mean of its neighbours above (or below), by turns; the order follows the
    wishes in the first sweeps. `rows` is put in order. A node alone in its layer stands in the middle, so that a long
    graph does not wander off."""
    step = float(NODE_WIDTH + COLUMN_GAP)
    x = {node: (place - (len(row) - 1) / 2) * step for row in rows for place, node in enumerate(row)}
    for sweep in range(_SORTING + _STRAIGHTENING):
        for downwards in (False, True):
            beside = sources if downwards else targets
            for row in rows if downwards else reversed(rows):
                if len(row) == 1:
                    continue
                wish = {
                    node: sum(x[other] for other in beside[node]) / len(beside[node]) if beside[node] else x[node]
                    for node in row
                }
                if sweep < _SORTING:
                    row.sort(key=lambda node, wish=wish: wish[node])  # type: ignore[misc]
                places = spread([wish[node] for node in row], [step] * (len(row) - 1))
                x.update(zip(row, map(round, places), strict=True))
    return x
