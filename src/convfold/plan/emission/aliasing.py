"""Which in-place operators may no longer write: something reads later what they overwrite."""

from __future__ import annotations

from typing import Any

from convfold.graph.captured import Step
from convfold.graph.program import Linear, Node
from convfold.plan.emission.change import Change, refs

__all__ = ["unsafe_writes"]

# Operators made of others whose result may be their argument itself, or a view of it.
_MAY_VIEW = frozenset(
    [
        "alpha_dropout",
        "alias",
        "broadcast_to",
        "chunk",
        "contiguous",
        "dropout",
        "expand_as",
        "feature_dropout",
        "flatten",
        "getitem",
        "moveaxis",
        "movedim",
        "narrow",
        "reshape",
        "split",
        "swapaxes",
        "swapdims",
        "tensor_split",
        "to",
        "type_as",
        "unflatten",
        "view_as",
    ]
)


def _views(step: Step | None, node: Node | None, changed: bool) -> bool:
    """Whether a value may share its memory with the first value that it is computed from."""
    if isinstance(node, Linear) and (changed or step is None):
        return len(node.terms) == 1 and node.shift is None and node.terms[0].map.kind in ("identity", "select", "pool")
    if step is None:
        return False
    target: Any = step.target
    name = str(target.__name__).split(".")[0]
    return bool(step.writes) or getattr(target, "is_view", False) or name in _MAY_VIEW


def unsafe_writes(change: Change) -> frozenset[int]:
    """The live values whose operator overwrites memory that the new program reads afterwards."""
    writers = [v for v in change.live if v in change.steps and change.steps[v].writes and v not in change.changed]
    if not writers:
        return frozenset()
    root = {value: value for value in change.live}

    def find(value: int) -> int:
        while root[value] != value:
            root[value] = root[root[value]]
            value = root[value]
        return value

    for value in change.order:
        node, step = change.after.nodes.get(value), change.steps.get(value)
        changed = value in change.changed
        if _views(step, node, changed) and node is not None:
            for source in node.inputs if changed else refs(step.args if step is not None else ()):
                root[find(value)] = find(source)
    members: dict[int, list[int]] = {}
    for value in change.live:
        members.setdefault(find(value), []).append(value)
    unsafe = set()
    for writer in writers:
        at = change.time[writer]
        for value in members[find(writer)]:
            later = [r for r in change.readers[value] if r != writer and change.time[r] > at]
            if change.time[value] < at and (later or value in change.after.outputs):
                unsafe.add(writer)
    return frozenset(unsafe)
