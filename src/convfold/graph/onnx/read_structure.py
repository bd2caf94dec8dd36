"""What onnx's checker lets pass and the libraries behind it lose or trip over."""

from __future__ import annotations

import onnx

from convfold.errors import InvalidArgument
from convfold.graph.onnx.read_parts import graphs, node_name, nodes, printable

__all__ = ["check_structure"]


def check_structure(proto: onnx.ModelProto, where: str) -> None:
    """Raises InvalidArgument for a model with parts that would be lost on the way, or without a whole graph."""
    if proto.training_info:
        raise InvalidArgument(
            "the model carries graphs for training, which folding would lose",
            where=where,
            hint="Export it for inference.",
        )
    for graph in graphs(proto):
        _check_graph(graph, where)
    for part in (proto.graph, *proto.functions):
        for node in nodes(part):
            names = [attribute.name for attribute in node.attribute]
            if len(set(names)) < len(names):
                raise InvalidArgument(f"{node_name(node)} has an attribute twice", where=where)
            if any(a.HasField("sparse_tensor") or a.sparse_tensors for a in node.attribute):
                raise _sparse(node_name(node), where)


def _check_graph(graph: onnx.GraphProto, where: str) -> None:
    if graph.sparse_initializer:
        raise _sparse(printable(graph.sparse_initializer[0].values.name), where)
    if any(not tensor.name for tensor in graph.initializer):
        raise InvalidArgument("an initialiser has no name", where=where)


def _sparse(name: str, where: str) -> InvalidArgument:
    return InvalidArgument(
        "sparse tensors are not supported", where=where, got=name, hint="Save the model with dense weights."
    )
