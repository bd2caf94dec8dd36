"""The yardstick of a comparison: sums of absolute terms, and how many roundings they go through."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor

from convfold.graph.maps import Map
from convfold.graph.program import Linear, Node
from convfold.graph.weights import Weights
from convfold.plan.emission.sums import conv_dims
from convfold.plan.whole import Programs

__all__ = ["length", "magnitude"]


def magnitude(
    change: Programs,
    value: int,
    spans: list[int],
    known: Mapping[int, Tensor],
    seen: Mapping[int, Any],
    weights: Weights,
) -> tuple[Tensor, int]:
    """A bound of the sum of the absolute terms of the original, by channel, and the roundings on its longest path."""
    sizes: dict[int, tuple[int | None, Tensor]] = {root: (None, _largest(x)) for root, x in known.items()}
    lengths = dict.fromkeys(known, 0)
    for current in spans:
        node = change.before.nodes[current]
        lengths[current] = max((lengths[s] for s in node.inputs), default=0) + _roundings(node)
        if isinstance(node, Linear):
            sizes[current] = _linear_size(node, sizes, seen[current], weights)
        else:
            inner = [sizes[s][1].max() for s in node.inputs]
            sizes[current] = (None, 2 * max([*inner, _largest(seen[current])], key=float))
    axis, found = sizes[value]
    rank = seen[value].dim()
    shaped = found if axis is None else found.reshape(-1, *(1,) * (rank - axis - 1))
    return shaped.expand(seen[value].shape), lengths[value]


def _largest(seen: Any) -> Tensor:
    """The largest absolute value, whatever the dtype: masks and indices are values too."""
    if not isinstance(seen, Tensor) or not seen.numel():
        return torch.zeros((), dtype=torch.float64)
    return (seen if seen.is_complex() else seen.double()).abs().max().double()


def _linear_size(
    node: Linear, sizes: Mapping[int, tuple[int | None, Tensor]], seen: Tensor, weights: Weights
) -> tuple[int | None, Tensor]:
    axes = {term.map.axis for term in node.terms if term.map.axis is not None}
    axes |= (
        {node.axis} if node.axis is not None else {a for a, _ in (sizes[t.source] for t in node.terms) if a is not None}
    )
    axis = axes.pop() if len(axes) == 1 else None
    total: Tensor = torch.zeros((), dtype=torch.float64)
    for term in node.terms:
        held, size = sizes[term.source]
        term_size = _through(
            term.map, size if held == term.map.axis or held == axis else size.max(), seen.dim(), weights
        )
        total = total + (term_size if axis is not None or term_size.dim() == 0 else term_size.max())
    if node.shift is not None:
        vector = weights.vector(node.shift, 1 if node.axis is None else seen.shape[node.axis]).abs()
        total = total + (vector if axis is not None and node.axis is not None else vector.max())
    return (axis if total.dim() else None), total


def _through(m: Map, size: Tensor, rank: int, weights: Weights) -> Tensor:
    """A bound of ``|m|(|x|)`` by channel, for x bounded by `size`."""
    if m.kind in ("identity", "pool"):
        return size
    if m.kind == "scalar":
        scale: Any = weights.op(m, 0, 1)
        return size * scale.scale[0].abs()
    if m.kind == "diagonal":
        scale = weights.op(m, 0, m.cols)
        return size * scale.scale.abs()
    if m.kind == "select":
        return size if size.dim() == 0 else size[torch.tensor(m.index)]
    conv: Any = weights.conv(m, conv_dims(m, rank) or 0, m.cols)
    taps = conv.weight.abs().flatten(2).sum(2) if conv.weight.dim() > 2 else conv.weight.abs()
    wide = size.expand(m.cols).reshape(m.groups, -1)
    if m.kind == "transposed":
        blocks = taps.reshape(m.groups, -1, taps.shape[1])
        return (blocks * wide.unsqueeze(-1)).sum(1).reshape(-1)
    blocks = taps.reshape(m.groups, -1, taps.shape[1])
    return torch.einsum("gof,gf->go", blocks, wide).reshape(-1)


def _roundings(node: Node) -> int:
    if not isinstance(node, Linear):
        return 8
    own = [
        m.cols // m.groups * prod(a.kernel for a in m.window) + 1 if m.dense else 5 for m in (t.map for t in node.terms)
    ]
    return max(own, default=0) + len(node.terms)


def length(change: Programs, value: int, inside: list[int]) -> int:
    lengths: dict[int, int] = {}
    for current in inside:
        node = change.after.nodes[current]
        lengths[current] = max((lengths.get(s, 0) for s in node.inputs), default=0) + _roundings(node)
    return lengths[value]
