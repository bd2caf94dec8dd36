"""Maps without a kernel of their own as nodes: selections, scales, poolings, pads and crops."""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from convfold.geometry import Axis, Window
from convfold.graph.maps import Map
from convfold.plan.onnx.forms import STEPS, divisor_of, step_of
from convfold.plan.onnx.target import Target
from convfold.plan.onnx.tensors import scale

__all__ = ["averaged", "cropped", "padded", "picked", "scaled", "uncropped"]

# Since then these nodes read their numbers as inputs, no longer as attributes.
_PAD_INPUTS = 11
_FIRST, _LAST = -(2**63), 2**63 - 1


def picked(at: Target, m: Map, source: ir.Value, node: str) -> ir.Value:
    """Channels by number."""
    assert m.index is not None
    assert m.axis is not None
    if node == "Gather":
        return at.node("Gather", [source, at.integers("index", m.index)], {"axis": m.axis})
    step = step_of(m.index)
    assert step is not None
    stop = m.index[-1] + (1 if step > 0 else -1)
    return _slice(at, source, [m.axis], [m.index[0]], [stop if stop >= 0 else _FIRST], [step])


def scaled(at: Target, m: Map, source: ir.Value) -> ir.Value:
    """Each channel, or all, by a factor."""
    if m.kind == "scalar":
        return at.node("Mul", [source, at.weight("scale", scale(m, 0), (), (m, "scale"), m.recipe, True)])
    assert m.axis is not None
    behind = at.rank - m.axis - 1
    shape = (m.rows, *(1,) * behind)
    return at.node("Mul", [source, at.weight("scale", scale(m, behind), shape, (m, "scale"), m.recipe, True)])


def averaged(at: Target, m: Map, source: ir.Value, nodes: tuple[str, ...]) -> ir.Value:
    """A sum over a window by a divisor; of one tap, a pad or a crop."""
    window, taps = m.window, prod(axis.kernel for axis in m.window)
    for node in nodes:
        if node == "Pad":
            source = padded(at, source, window)
            window = tuple(axis.shifted(-axis.lo, -axis.hi) for axis in window)
        elif node == "Slice":
            strides = [axis.stride for axis in window] if taps == 1 and at.writer.opset >= STEPS else None
            source = cropped(at, source, window, strides)
            window = uncropped(window)
        elif node == "AveragePool":
            source = _pooled(at, source, window)
        else:
            factor = scalar(taps / divisor_of(m))
            source = at.node("Mul", [source, at.weight("scale", scale(factor, 0), ())])
    return source


def scalar(factor: float) -> Map:
    return Map("scalar", factor=factor)


def _pooled(at: Target, source: ir.Value, window: Window) -> ir.Value:
    attributes: dict[str, int | list[int]] = {
        "kernel_shape": [axis.kernel for axis in window],
        "strides": [axis.stride for axis in window],
        "pads": [axis.lo for axis in window] + [axis.hi for axis in window],
        "count_include_pad": 1,
    }
    if any(axis.dilation > 1 and axis.kernel > 1 for axis in window):
        attributes["dilations"] = [axis.dilation for axis in window]
    return at.node("AveragePool", [source], attributes)


def padded(at: Target, source: ir.Value, window: Window) -> ir.Value:
    """Zeros around the axes behind the channels; where the padding is negative, less."""
    pads = [0, 0, *(axis.lo for axis in window), 0, 0, *(axis.hi for axis in window)]
    if at.writer.opset < _PAD_INPUTS:
        return at.node("Pad", [source], {"pads": pads})
    return at.node("Pad", [source, at.integers("pads", pads)])


def cropped(at: Target, source: ir.Value, window: Window, strides: list[int] | None = None) -> ir.Value:
    """What is left of the axes behind the channels where the padding is negative, every so many positions."""
    steps = strides or [1] * len(window)
    cuts = [
        (2 + place, max(-axis.lo, 0), axis.hi if axis.hi < 0 else _LAST, step)
        for place, (axis, step) in enumerate(zip(window, steps, strict=True))
        if axis.lo < 0 or axis.hi < 0 or step > 1
    ]
    axes, starts, ends, steps = (list(column) for column in zip(*cuts, strict=True))
    return _slice(at, source, axes, starts, ends, steps)


def uncropped(window: Window) -> Window:
    """The window on what is cropped already."""
    return tuple(Axis(a.kernel, a.stride, a.dilation, max(a.lo, 0), max(a.hi, 0)) for a in window)


def _slice(
    at: Target, source: ir.Value, axes: list[int], starts: list[int], ends: list[int], steps: list[int]
) -> ir.Value:
    if at.writer.opset < STEPS:
        return at.node("Slice", [source], {"axes": axes, "starts": starts, "ends": ends})
    numbers = [("starts", starts), ("ends", ends), ("axes", axes)]
    if any(step != 1 for step in steps):
        numbers.append(("steps", steps))
    return at.node("Slice", [source, *(at.integers(role, found) for role, found in numbers)])
