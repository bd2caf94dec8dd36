"""The node of a convolution, or of a product with a constant matrix, as a plain layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from convfold.cost.report import Row
from convfold.cost.what_if.places import PlacedLayer
from convfold.errors import ConvfoldError
from convfold.geometry import Window, point
from convfold.geometry.closed import Layer, convolution

__all__ = ["NodeLayer", "node_layer"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class NodeLayer:
    """What becomes a `PlacedLayer` once its row is there."""

    layer: Layer | None = None
    bias: bool = False
    item: int = 4
    reason: str = ""

    def at(self, row: Row) -> PlacedLayer:
        """The layer as that of a row; not told where the row executes other products too."""
        if self.layer is not None and convolution(self.layer).macs != row.macs:
            return replace(self, layer=None, reason="it executes more than its own convolution").at(row)
        return PlacedLayer(row, self.layer, 1, self.bias, self.item, self.reason)


def node_layer(
    node: ir.Node, read: Sequence[Shape | None], window: Window | None, macs: int, convolutions: int
) -> NodeLayer:
    """The layer of a node that executes `macs`; `convolutions`: 1 where its second input is constant."""
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return NodeLayer(reason=f"{node.op_type} has no such form")
    data, weight = read[0], read[1]
    if not convolutions or data is None or weight is None:
        return NodeLayer(reason="its weight is not constant")
    dtype = node.inputs[1].dtype if node.inputs[1] is not None else None
    item = 4 if dtype is None else int(dtype.itemsize)
    bias = len(read) > 2 and read[2] is not None
    try:
        if node.op_type == "Conv":
            assert window is not None
            groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
            layer = Layer(weight[1] * groups, weight[0], window, data[2:], groups, data[0])
        else:
            across = "transB" in node.attributes and node.attributes["transB"].as_int()
            wide, narrow = (weight[1], weight[0]) if across else (weight[-2], weight[-1])
            layer = Layer(wide, narrow, point(1), (macs // (wide * narrow * data[0]),), 1, data[0])
    except (ConvfoldError, IndexError, ZeroDivisionError):
        return NodeLayer(reason="its shapes are not those of a layer")
    return (
        NodeLayer(layer, bias, item)
        if convolution(layer).macs == macs
        else NodeLayer(reason="it is a batch of products")
    )
