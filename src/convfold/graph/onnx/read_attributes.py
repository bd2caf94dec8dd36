"""Numbers in attributes that no operator can mean, and weights that do not fit their operator.

onnx's shape inference passes some of them by, and what is behind it divides by them or allocates them.
"""

from __future__ import annotations

import onnx

from convfold.errors import InvalidArgument
from convfold.graph.onnx.nodes import is_standard
from convfold.graph.onnx.read_parts import node_name, printable

__all__ = ["check_attributes", "check_weights"]

# Sizes, steps and counts: at least one, and what an int32 holds, as kernels compute with those.
_COUNTS = frozenset(
    ("block_size", "blocksize", "dilations", "group", "kernel_shape", "num_groups", "num_outputs", "strides")
)
_MOST = 2**31 - 1
# TfIdfVectorizer counts up to this, in ONNX Runtime for minutes and in Python for days.
_SKIPS = 10_000
# Operators in which these attributes mean that.
_WINDOWED = frozenset(
    (
        "AveragePool", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "DepthToSpace",
        "GroupNormalization", "LpPool", "MaxPool", "MaxUnpool", "QLinearConv", "SpaceToDepth", "Split",
    )
)  # fmt: skip


def check_attributes(node: onnx.NodeProto, where: str) -> None:
    """Raises InvalidArgument for texts that are none, and for sizes that are none."""
    for attribute in node.attribute:
        for text in (attribute.s, *attribute.strings):
            _check_text(text, node, attribute.name, where)
        if attribute.name == "max_skip_count" and attribute.i > _SKIPS:
            raise InvalidArgument(
                f"{node_name(node)} has an impossible 'max_skip_count'", where=where, got=attribute.i,
                expected=f"at most {_SKIPS}",
            )  # fmt: skip
        if node.op_type not in _WINDOWED or not is_standard(node):
            continue
        numbers = list(attribute.ints) if attribute.ints else [attribute.i] if attribute.HasField("i") else []
        least = 1 if attribute.name in _COUNTS else -_MOST
        for number in numbers:
            if not least <= number <= _MOST:
                raise InvalidArgument(
                    f"{node_name(node)} has an impossible {printable(attribute.name)!r}",
                    where=where,
                    got=number,
                    expected=f"{least} to {_MOST}",
                )


def _check_text(text: bytes, node: onnx.NodeProto, name: str, where: str) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        raise InvalidArgument(f"{node_name(node)} has no text in {printable(name)!r}", where=where) from None


def check_weights(graph: onnx.GraphProto, where: str) -> None:
    """Raises InvalidArgument for convolutions whose weights do not go with their attributes."""
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    replaced = {info.name for info in graph.input}
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose") or not is_standard(node) or len(node.input) < 2:
            continue
        shape = shapes.get(node.input[1])
        if shape is None or node.input[1] in replaced:
            continue
        attributes = {attribute.name: attribute for attribute in node.attribute}
        group = attributes["group"].i if "group" in attributes else 1
        kernel = list(attributes["kernel_shape"].ints) if "kernel_shape" in attributes else shape[2:]
        bias = shapes.get(node.input[2]) if len(node.input) > 2 and node.input[2] not in replaced else None
        channels = shape[:1] if node.op_type == "Conv" else [n * group for n in shape[1:2]]
        fits = len(shape) >= 3 and all(n > 0 for n in shape) and kernel == shape[2:] and shape[0] % group == 0
        if not fits:
            raise InvalidArgument(
                f"the weights of {node_name(node)} do not go with its attributes", where=where, got=shape,
                expected=f"{group} groups with a window of {kernel}",
            )  # fmt: skip
        if bias not in (None, channels):
            what = f"the bias of {node_name(node)} has not one number for each channel"
            raise InvalidArgument(what, where=where, got=bias, expected=channels)
