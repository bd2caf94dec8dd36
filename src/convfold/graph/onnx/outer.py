"""What a node reads, with what the graphs inside it read."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["outer_values"]


def outer_values(node: ir.Node) -> list[ir.Value]:
    """The values that a node reads: its inputs, and those of the graph around that its own graphs read."""
    found = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        graphs = {ir.AttributeType.GRAPH: lambda a: [a.as_graph()], ir.AttributeType.GRAPHS: lambda a: a.as_graphs()}
        for graph in graphs[attribute.type](attribute) if attribute.type in graphs else ():
            for inner in ir.traversal.RecursiveGraphIterator(graph):
                found += [value for value in inner.inputs if value is not None]
            found += list(graph.outputs)
    return found
