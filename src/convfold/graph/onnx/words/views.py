"""Changes of layout."""

from __future__ import annotations

from dataclasses import replace

from convfold.graph.onnx.nodes import VIEWS, transposition
from convfold.graph.onnx.reading import Reading, word
from convfold.graph.operation import RULES, Operation
from convfold.graph.program import Node, Spatial

__all__ = ["view_operation"]


def view_operation(at: Reading) -> Operation | None:
    """A change of layout as the operator of the rules that it is; None for other nodes."""
    if at.node.op_type not in VIEWS:
        return None
    order = transposition(at.node, len(at.out.dims))
    named = {"self": at.input(0)}
    return at.operation("reshape", named) if order is None else at.operation("permute", {**named, "dims": list(order)})


def _fixed(at: Reading, node: Node | None) -> Node | None:
    """A node that may be repeated on other channels only if its shape can be written anew: if it is constant."""
    if isinstance(node, Spatial) and any(at.follows(index) for index in range(1, len(at.inputs))):
        return replace(node, axes=(), spread=(1, 1))
    return node


@word(*VIEWS)
def view(at: Reading) -> Node | None:
    """The elements in order, in another shape; or the axes in another order."""
    op = view_operation(at)
    node = None if op is None else RULES[op.name](op)
    return _costs(node) if at.node.op_type == "Transpose" else _fixed(at, node)


@word("DepthToSpace")
def depth_to_space(at: Reading) -> Node | None:
    """Channels become positions, those of a pixel next to each other."""
    if at.attr("mode", "DCR") != "CRD":
        return None
    return _costs(at.rule("pixel_shuffle", self=at.input(0), upscale_factor=at.attr("blocksize")))


@word("Expand")
def expand(at: Reading) -> Node | None:
    """Axes of size one, repeated."""
    return _costs(_fixed(at, at.rule("expand", self=at.input(0))))


def _costs(node: Node | None) -> Node | None:
    """What is a view in torch moves memory here."""
    return replace(node, free=False) if isinstance(node, Spatial) else node
