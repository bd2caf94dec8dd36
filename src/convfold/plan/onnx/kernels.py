"""Dense maps as nodes: convolutions, transposed convolutions, products."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from convfold.graph.maps import Given, Map
from convfold.graph.program import Shift
from convfold.plan.onnx.forms import covering, place_of, ungrouped
from convfold.plan.onnx.small import cropped, uncropped
from convfold.plan.onnx.target import Target
from convfold.plan.onnx.tensors import Kernel

__all__ = ["dense"]

# Since then Gemm need not be given a bias.
_GEMM_ALONE = 11


def dense(at: Target, m: Map, source: ir.Value, nodes: tuple[str, ...], shift: Shift | None) -> ir.Value:
    """``m(source)``, with `shift` added by the node itself if there is one."""
    if place_of(m, at.rank) == "conv":
        return _conv(at, m, source, nodes, shift)
    m = ungrouped(m, at.rank)
    if nodes == ("Gemm",):
        return _gemm(at, m, source, shift)
    weight, turned = _matrix(at, m, after=True)
    assert not turned
    if nodes == ("MatMul",):
        return at.node("MatMul", [source, weight])
    assert m.axis is not None
    order = [axis for axis in range(at.rank) if axis != m.axis] + [m.axis]
    back = [order.index(axis) for axis in range(at.rank)]
    moved = at.node("Transpose", [source], {"perm": order})
    return at.node("Transpose", [at.node("MatMul", [moved, weight])], {"perm": back})


def _conv(at: Target, m: Map, source: ir.Value, nodes: tuple[str, ...], shift: Shift | None) -> ir.Value:
    window = covering(m, at.rank)
    if nodes[0] == "Slice":
        source = cropped(at, source, window)
        window = uncropped(window)
    taps = tuple(axis.kernel for axis in window)
    lead = (m.cols, m.rows // m.groups) if m.kind == "transposed" else (m.rows, m.cols // m.groups)
    weight = at.weight("weight", Kernel(m, len(window)), (*lead, *taps), (m, "kernel"), m.recipe)
    attributes: dict[str, Any] = {
        "kernel_shape": taps,
        "strides": [axis.stride for axis in window],
        "dilations": [axis.dilation for axis in window],
        "pads": [max(axis.lo, 0) for axis in window] + [max(axis.hi, 0) for axis in window],
        "group": m.groups,
    }
    if m.kind == "transposed" and any(axis.hi < 0 for axis in window):
        attributes["output_padding"] = [max(-axis.hi, 0) for axis in window]
    inputs = [source, weight] if shift is None else [source, weight, at.bias(shift, m.rows)]
    return at.node(nodes[-1], inputs, attributes)


def _gemm(at: Target, m: Map, source: ir.Value, shift: Shift | None) -> ir.Value:
    weight, turned = _matrix(at, m, after=False)
    inputs = [source, weight]
    if shift is not None:
        inputs.append(at.bias(shift, m.rows))
    elif at.writer.opset < _GEMM_ALONE:
        inputs.append(at.writer.filled(0.0, m.rows, at.dtype))
    return at.node("Gemm", inputs, {"transB": int(turned)})


def _matrix(at: Target, m: Map, after: bool) -> tuple[ir.Value, bool]:
    """The matrix of a product, and whether it is (O, I) and not (I, O); `after`: it must be (I, O).

    A matrix of the file is used as it lies there.
    """
    make = Kernel(m, 0)
    key = m.recipe.key if isinstance(m.recipe, Given) else None
    if isinstance(key, tuple) and key[0] == "transposed":
        held = at.writer.stored(key[1], (m.cols, m.rows), at.dtype)
        if held is not None:
            return held, False
    if after:
        shape = (m.cols, m.rows)
        return at.weight("weight", lambda weights: make(weights).t(), shape, (m, "matrix after")), False
    return at.weight("weight", make, (m.rows, m.cols), (m, "matrix"), m.recipe), True
