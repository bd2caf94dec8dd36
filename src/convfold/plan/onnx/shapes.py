"""The sizes of the values of a planned program at both points, as far as they can be told."""

from __future__ import annotations

from convfold.graph.maps import is_pointwise
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.program import Concat, Elementwise, Linear, Node, Spatial, Value
from convfold.graph.sizes import Pair

__all__ = ["Sizes"]


class Sizes:
    """Sizes by number: those of the file's own values, and of new ones what their definitions say."""

    def __init__(self, captured: CapturedFile, values: list[Value], nodes: dict[int, Node]) -> None:
        self._values, self._nodes = values, nodes
        self._known: dict[int, tuple[Pair, ...] | None] = dict(captured.sizes)

    def pairs(self, number: int) -> tuple[Pair, ...] | None:
        """The sizes of a value; None where they are not known."""
        stack = [number]
        while stack:
            current = stack[-1]
            like = self._like(current)
            if current in self._known or like is None or like in self._known:
                if current not in self._known:
                    self._known[current] = self._told(current, None if like is None else self._known[like])
                stack.pop()
            else:
                stack.append(like)
        return self._known[number]

    def _like(self, number: int) -> int | None:
        """A value that has the same sizes but for the channels."""
        node = self._nodes.get(number)
        if isinstance(node, (Spatial, Elementwise)):
            return node.like
        if isinstance(node, Concat):
            return node.pieces[0]
        if isinstance(node, Linear) and all(is_pointwise(term.map) for term in node.terms):
            return node.terms[0].source
        return None

    def _told(self, number: int, like: tuple[Pair, ...] | None) -> tuple[Pair, ...] | None:
        shape = self._values[number].shape
        if like is None or len(like) != len(shape):
            return None
        # What differs is the width of the channels, which is the same for all inputs.
        return tuple(pair if pair[0] == size else (size, size) for pair, size in zip(like, shape, strict=True))
