"""The smallest maps that show every border of a definition: what a comparison is made on."""

from __future__ import annotations

from convfold.graph.maps import Map
from convfold.graph.program import Concat, Linear, Node, Spatial
from convfold.plan.emission.borders import borders_of
from convfold.plan.emission.change import Change

__all__ = ["small_shapes"]

# Operators that work on a map of any size.
_SIZELESS = frozenset(
    [
        "conv1d",
        "conv2d",
        "conv3d",
        "convolution",
        "batch_norm",
        "add",
        "sub",
        "mul",
        "div",
        "neg",
        "relu",
        "pad",
        "constant_pad_nd",
        "avg_pool1d",
        "avg_pool2d",
        "avg_pool3d",
        "cat",
        "dropout",
        "alias",
        "silu",
        "gelu",
        "hardswish",
        "hardsigmoid",
        "sigmoid",
        "relu6",
        "hardtanh",
        "clamp",
        "leaky_relu",
    ]
)


def small_shapes(
    change: Change, value: int, inside: list[int], roots: list[int], spans: list[int]
) -> dict[int, tuple[int, ...]]:
    """Shapes of the roots that show every border and an inner position; none where sizes are part of the model."""
    after, shapes = change.after, {}
    rank = len(after.values[value].shape)
    free = all(_sizeless(change, v) for v in spans) and rank > 2
    nodes = {v: after.nodes[v] for v in inside}
    if not free or not all(isinstance(n, (Linear, Concat)) or not isinstance(n, Spatial) for n in nodes.values()):
        return {}
    if any(len(after.values[v].shape) != rank for v in (*inside, *roots)) or not all(map(_plain, nodes.values())):
        return {}
    dims = rank - 2
    sides = [_sides(n, dims) for n in nodes.values()]
    need: dict[int, tuple[int, ...]] = {value: tuple(max(2, 1 + sum(s[a] for s in sides)) for a in range(dims))}
    for current in reversed(inside):
        node, size = nodes[current], need[current]
        for source, m in _sources(node):
            before = _before(m, size)
            if before is None or need.setdefault(source, before) != before:
                return {}
    for root in roots:
        shapes[root] = (1, after.values[root].shape[1], *need[root])
    return shapes


def _sizeless(change: Change, value: int) -> bool:
    step = change.steps[value]
    name = str(step.target.__name__).split(".")[0].rstrip("_")
    return name in _SIZELESS and len(change.before.values[value].shape) > 2


def _plain(node: Node) -> bool:
    if isinstance(node, Concat):
        return node.axis == 1
    if not isinstance(node, Linear):
        return True
    if any(term.map.kind == "transposed" or term.map.axis not in (None, 1) for term in node.terms):
        return False
    dims = max((len(term.map.window) for term in node.terms), default=0)
    return node.axis in (None, 1) and (node.shift is None or borders_of(node.shift, dims) is not None)


def _sides(node: Node, dims: int) -> tuple[int, ...]:
    """Positions at both ends of each axis that see a border."""
    sides = [0] * dims
    for term in node.terms if isinstance(node, Linear) else ():
        for axis, a in enumerate(term.map.window):
            sides[axis] = max(sides[axis], -(-max(a.lo, 0) // a.stride) + -(-max(a.hi, 0) // a.stride))
    return tuple(sides)


def _sources(node: Node) -> list[tuple[int, Map | None]]:
    if isinstance(node, Linear):
        return [(term.source, term.map) for term in node.terms]
    return [(source, None) for source in node.inputs]


def _before(m: Map | None, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """The smallest size that `m` makes `size` of; None where there is none."""
    if m is None or not m.window:
        return size
    found = tuple(a.stride * (n - 1) - a.slack for n, a in zip(size, m.window, strict=True))
    return found if min(found) >= 1 else None
