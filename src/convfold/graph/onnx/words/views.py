"""Changes of layout."""

from __future__ import annotations

from dataclasses import replace

from convfold.graph.onnx.reading import Reading, word
from convfold.graph.program import Node, Spatial

__all__: list[str] = []


def _fixed(at: Reading, node: Node | None) -> Node | None:
    """A node that may be repeated on other channels only if its shape can be written anew: if it is constant."""
    if isinstance(node, Spatial) and any(at.follows(index) for index in range(1, len(at.inputs))):
        return replace(node, axes=(), spread=(1, 1))
    return node


@word("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(at: Reading) -> Node | None:
    """The elements in order, in another shape."""
    return _fixed(at, at.rule("reshape", self=at.input(0)))


@word("Transpose")
def transpose(at: Reading) -> Node | None:
    """The axes in another order."""
    order = at.attr("perm") or list(range(len(at.out.dims)))[::-1]
    return _costs(at.rule("permute", self=at.input(0), dims=order))


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
