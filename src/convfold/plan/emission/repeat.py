"""The operator of one value on another source: what a definition that is like another's executes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convfold.graph.captured import Ref, Step
from convfold.graph.program import Elementwise, Opaque, Spatial
from convfold.plan.emission.change import Change

__all__ = ["repeated_step"]

# Operators that are given the shape of their result.
_SHAPED = frozenset({"view", "reshape", "_unsafe_view", "expand", "broadcast_to"})


def repeated_step(change: Change, value: int, node: Spatial | Elementwise | Opaque) -> Step:
    """The step of the value that `node` is like, on its own source and with its own number of channels."""
    if isinstance(node, Opaque):
        return change.steps[value]
    step = change.steps[node.like]
    (before,) = set(change.before.nodes[node.like].inputs)
    step = _with_source(step, before, node.source)
    old, new = change.after.values[node.like].shape, change.after.values[value].shape
    differs = [axis for axis, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    if not differs or str(step.target.__name__).split(".")[0] not in _SHAPED:
        return step
    name, shape = _shape_argument(step)
    held = [new[axis] if axis in differs and size != -1 else size for axis, size in enumerate(shape)]
    if name is None:
        return replace(step, args=(step.args[0], held, *step.args[2:]))
    return replace(step, kwargs={**step.kwargs, name: held})


def _shape_argument(step: Step) -> tuple[str | None, list[Any]]:
    if len(step.args) > 1:
        return None, list(step.args[1])
    name = next(key for key in ("size", "shape") if key in step.kwargs)
    return name, list(step.kwargs[name])


def _with_source(step: Step, before: int, source: int) -> Step:
    def leaf(item: Any) -> Any:
        if isinstance(item, (list, tuple)):
            return type(item)(leaf(part) for part in item)
        return Ref(source) if isinstance(item, Ref) and item.value == before else item

    args = tuple(leaf(item) for item in step.args)
    return replace(step, args=args, kwargs={name: leaf(item) for name, item in step.kwargs.items()})
