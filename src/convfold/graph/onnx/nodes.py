"""What a node reads, the graphs inside it, and whose operator it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx_ir as ir

__all__ = ["STANDARD", "VIEWS", "inner_graphs", "is_standard", "opset_of", "opsets", "reads", "transposition"]

# How files spell the domain of onnx's own operators; onnx_ir reads both as the first in nodes, not in opset imports.
STANDARD = ("", "ai.onnx")

# The elements in another shape, or on other axes; nothing is computed.
VIEWS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")


def is_standard(node: ir.Node | onnx.NodeProto) -> bool:
    """Whether the operator is one of onnx's own."""
    return node.domain in STANDARD


def opsets(imports: Mapping[str, int]) -> dict[str, int]:
    """The opset of each domain, that of onnx's own operators under ``""``."""
    return {"" if domain in STANDARD else domain: version for domain, version in imports.items()}


def opset_of(imports: Mapping[str, int]) -> int:
    """The opset of onnx's own operators, however it is spelled; 0 where none is imported."""
    return opsets(imports).get("", 0)


def inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that a node holds in its attributes."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """The values that a node reads: its inputs, and all that the graphs inside it read or give."""
    yield from (value for value in node.inputs if value is not None)
    for graph in inner_graphs(node):
        yield from graph.outputs
        for inner in graph:
            yield from reads(inner)


def transposition(node: ir.Node, rank: int) -> Sequence[int] | None:
    """For each axis after a Transpose the one before, by default the last first; None for other operators."""
    if node.op_type != "Transpose":
        return None
    given = node.attributes.get("perm")
    return range(rank)[::-1] if given is None else given.as_ints()
