"""Splits: each piece a part of what is split."""

from __future__ import annotations

from typing import Any

from torch import fx

from convfold.graph.operation import functional_name
from convfold.graph.sizes import expression, static

__all__ = ["SPLITS", "span"]

SPLITS = ("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")


def span(node: fx.Node) -> tuple[int, int, int] | None:
    """(axis, start, stop) of a piece that is taken out of a split; None where they follow the inputs."""
    split, index = node.args
    if not isinstance(split, fx.Node) or functional_name(split.target) not in SPLITS:
        return None
    arguments: Any = split.target._schema.arguments  # type: ignore[union-attr]
    given = {a.name: a.default_value for a in arguments if a.has_default_value()}
    given.update(zip((a.name for a in arguments), split.args, strict=False))
    given.update(split.kwargs)
    pieces = [piece.shape for piece in split.meta["val"]]
    axis = given["dim"] % len(pieces[0])
    widths = [static(expression(piece[axis])) for piece in pieces]
    starts = [0]
    for width in widths[: int(str(index)) + 1]:
        if width is None:
            return None
        starts.append(starts[-1] + width)
    return axis, starts[-2], starts[-1]
