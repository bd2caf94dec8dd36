"""A write through a view, as an operator on the whole."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from convfold.graph.capture.pieces import span
from convfold.graph.captured import Size, Step
from convfold.graph.operation import functional_name
from convfold.graph.sizes import expression

__all__ = ["scattered"]

aten: Any = torch.ops.aten
_RESHAPES = (
    "view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous", "alias", "detach", "view_as",
    "_unsafe_view", "reshape_as", "to",
)  # fmt: skip
_SWAPS = ("transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT")


def scattered(node: fx.Node, parent: fx.Node, whole: Any, part: Any, args: tuple[Any, ...]) -> Step | None:
    """The step that gives `whole` with the part that the view `node` of it shows replaced by `part`.

    None for a view that is not known.
    """
    if node.target is operator.getitem:
        where = span(node)
        return None if where is None else Step(aten.slice_scatter.default, (whole, part, *where), {})
    name = functional_name(node.target)
    if name == "slice":
        return Step(aten.slice_scatter.default, (whole, part, *args[1:]), dict(node.kwargs))
    if name == "narrow":
        axis, start, length = args[1:]
        if not all(isinstance(a, int) for a in (axis, start, length)) or start < 0:
            return None
        return Step(aten.slice_scatter.default, (whole, part, axis, start, start + length), {})
    if name == "select":
        return Step(aten.select_scatter.default, (whole, part, *args[1:]), {})
    if name in _RESHAPES:
        sizes = [expression(size) for size in parent.meta["val"].shape]
        return Step(
            aten.reshape.default, (part, [Size(size) if hasattr(size, "free_symbols") else size for size in sizes]), {}
        )
    if name in _SWAPS:
        return Step(node.target, (part, *args[1:]), {})  # type: ignore[arg-type]
    if name == "permute":
        order = [axis % len(args[1]) for axis in args[1]]
        return Step(aten.permute.default, (part, [order.index(axis) for axis in range(len(order))]), {})
    return None
