"""Walking through a model as protobuf, and its texts shortened for a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

__all__ = ["all_tensors", "graphs", "node_name", "nodes", "one_line", "printable"]


def printable(text: str, most: int = 80) -> str:
    """`text` without control characters, at most `most` characters long."""
    clean = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return clean if len(clean) <= most else clean[: most - 3] + "..."


def one_line(error: BaseException) -> str:
    """What an error of another library says, in its first line and at most 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return printable(lines[0] if lines else type(error).__name__, 200).rstrip(" .:")


def node_name(node: onnx.NodeProto) -> str:
    """A node for a sentence: its type and name, or the name of what it computes."""
    name = node.name or next((name for name in node.output if name), "")
    return f"{printable(node.op_type)} {printable(name)!r}" if name else printable(node.op_type)


def _subgraphs(listed: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in listed:
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield graph
                yield from _subgraphs(graph.node)


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The graph, those in its nodes, and those in the nodes of functions."""
    yield proto.graph
    yield from _subgraphs(proto.graph.node)
    for function in proto.functions:
        yield from _subgraphs(function.node)


def nodes(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph or a function and of the graphs in them."""
    yield from graph.node
    for below in _subgraphs(graph.node):
        yield from below.node


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the model: initialisers and attributes, in subgraphs and functions too."""
    for graph in graphs(proto):
        yield from graph.initializer
    for part in (proto.graph, *proto.functions):
        for node in nodes(part):
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
