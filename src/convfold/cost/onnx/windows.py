"""The window of a convolution's or a pooling's node, with the padding that ``auto_pad`` makes of the sizes."""

from __future__ import annotations

import onnx_ir as ir

from convfold.geometry import Axis, Window

__all__ = ["node_window"]

Shape = tuple[int, ...]


def node_window(node: ir.Node, kernel: Shape, read: Shape, given: Shape) -> Window:
    """`read` and `given`: the sizes behind the channels before and after."""
    dims = len(kernel)
    strides = _ints(node, "strides", (1,) * dims)
    dilations = _ints(node, "dilations", (1,) * dims)
    pads = _ints(node, "pads", (0,) * (2 * dims))
    mode = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    axes = []
    for at in range(dims):
        axis = Axis(kernel[at], strides[at], dilations[at], pads[at], pads[at + dims])
        if mode.startswith("SAME"):
            total = max((given[at] - 1) * axis.stride + axis.span - read[at], 0)
            less, more = total // 2, total - total // 2
            lo, hi = (less, more) if mode == "SAME_UPPER" else (more, less)
            axis = Axis(axis.kernel, axis.stride, axis.dilation, lo, hi)
        axes.append(axis)
    return tuple(axes)


def _ints(node: ir.Node, name: str, default: Shape) -> Shape:
    return tuple(node.attributes[name].as_ints()) if name in node.attributes else default
