"""The multiply-accumulates of nodes that are no linear map of one value: products of two, recurrent layers."""

from __future__ import annotations

import math

import onnx_ir as ir

from convfold.graph.onnx.nodes import is_standard
from convfold.graph.onnx.shapes import Shape, Shapes

__all__ = ["macs_of"]


def macs_of(node: ir.Node, shapes: Shapes) -> tuple[int, int]:
    """Multiply-accumulates at the example sizes, and convolutions; zeros for other operators and unknown shapes.

    A convolution counts ``positions * O * I/g * taps``, a product ``M * K * N`` for each batch, a recurrent layer
    ``steps * batch * directions * gates * H * (I + H)``.
    """
    count = _COUNTS.get(node.op_type) if is_standard(node) else None
    read = [None if value is None else shapes.shape(value, 0) for value in node.inputs]
    given = [shape for shape in read[:3] if shape is not None]
    out = shapes.shape(node.outputs[0], 0) if node.outputs and node.outputs[0].name else None
    if count is None or len(given) < 2:
        return 0, 0
    dense = any(value in shapes.constants for value in node.inputs[1:2])
    macs = count(node, given, out)
    return (0, 0) if macs is None else (macs, int(dense and macs > 0))


def _convolution(node: ir.Node, read: list[Shape], out: Shape | None) -> int | None:
    return None if out is None else math.prod(out) * math.prod(read[1][1:])


def _transposed(node: ir.Node, read: list[Shape], out: Shape | None) -> int | None:
    return math.prod(read[0]) * math.prod(read[1][1:])


def _product(node: ir.Node, read: list[Shape], out: Shape | None) -> int | None:
    across = node.attributes["transA"].as_int() if "transA" in node.attributes else 0
    return None if out is None or not read[0] else math.prod(out) * (read[0][0] if across else read[0][-1])


def _recurrent(node: ir.Node, read: list[Shape], out: Shape | None) -> int | None:
    # W (directions, gates*H, I), R (directions, gates*H, H)
    if len(read) < 3 or any(len(shape) != 3 for shape in read):
        return None
    return math.prod(read[0][:2]) * (math.prod(read[1]) + math.prod(read[2]))


_COUNTS = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _product,
    "MatMul": _product,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}
