"""What onnx's checker lets pass and the libraries behind it lose or trip over."""

from __future__ import annotations

import math

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from convfold.errors import InvalidArgument
from convfold.graph.onnx.read_attributes import check_attributes, check_weights
from convfold.graph.onnx.read_parts import graphs, node_name, nodes, printable

__all__ = ["check_structure"]

# Numbers in one input.
MOST = 2**31


def check_structure(proto: onnx.ModelProto, where: str) -> None:
    """Raises InvalidArgument for a model with parts that would be lost on the way, or with texts that are none."""
    _check_texts(proto, where)
    if proto.training_info:
        raise InvalidArgument(
            "the model carries graphs for training, which folding would lose",
            where=where,
            hint="Export it for inference.",
        )
    for info in proto.graph.input:
        sizes = [dim.dim_value for dim in info.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        if math.prod(sizes) > MOST:
            raise InvalidArgument("an input is too large to be run", where=where, got=f"{printable(info.name)} {sizes}")
    for graph in graphs(proto):
        _check_graph(graph, where)
    for part in (proto.graph, *proto.functions):
        for node in nodes(part):
            names = [attribute.name for attribute in node.attribute]
            if len(set(names)) < len(names):
                raise InvalidArgument(f"{node_name(node)} has an attribute twice", where=where)
            if any(a.HasField("sparse_tensor") or a.sparse_tensors for a in node.attribute):
                raise _sparse(node_name(node), where)
            check_attributes(node, where)
    for graph in graphs(proto):
        check_weights(graph, where)


def _check_texts(message: Message, where: str) -> None:
    """Every text of a message and those in it: protobuf hands out bytes where they are not UTF-8."""
    for field, held in message.ListFields():
        several = [held] if isinstance(held, str | bytes | Message) else held
        if field.type == FieldDescriptor.TYPE_STRING:
            for text in several:
                if not isinstance(text, str):
                    raise InvalidArgument(
                        "a name in the file is no text", where=where, got=repr(text[:80]), hint="Export it again."
                    )
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            for below in several:
                _check_texts(below, where)


def _check_graph(graph: onnx.GraphProto, where: str) -> None:
    if graph.sparse_initializer:
        raise _sparse(printable(graph.sparse_initializer[0].values.name), where)
    if any(not tensor.name for tensor in graph.initializer):
        raise InvalidArgument("an initialiser has no name", where=where)


def _sparse(name: str, where: str) -> InvalidArgument:
    return InvalidArgument(
        "sparse tensors are not supported", where=where, got=name, hint="Save the model with dense weights."
    )
