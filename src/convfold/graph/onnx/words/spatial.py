"""Poolings, means, resizings and pads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from convfold.geometry import Axis, Window
from convfold.graph.captured import Constant
from convfold.graph.onnx.reading import Reading, word
from convfold.graph.onnx.words.dense import pads_of
from convfold.graph.program import Node, Spatial
from convfold.graph.rules.spatial import averaged, uniform

__all__: list[str] = []


@word("AveragePool")
def average(at: Reading) -> Node | None:
    """The mean of each window."""
    source = at.source
    if source is None:
        return None
    kernel = at.attr("kernel_shape")
    dims = len(kernel)
    strides, dilations = at.attr("strides") or [1] * dims, at.attr("dilations") or [1] * dims
    pads = pads_of(at, kernel, strides, dilations)
    op = at.operation("avg_pool", {"self": source})
    if pads is None:
        return uniform(op, source, dims, ones=not at.attr("count_include_pad", 0))
    window: Window = tuple(Axis(*row, *sides) for *row, sides in zip(kernel, strides, dilations, pads, strict=True))
    return averaged(
        op, source, window, counts_padding=bool(at.attr("count_include_pad", 0)), ceil=bool(at.attr("ceil_mode", 0))
    )


@word("GlobalAveragePool")
def global_average(at: Reading) -> Node | None:
    """The mean over all positions."""
    return at.rule("mean", self=at.input(0), dim=list(range(2, len(at.out.dims))), keepdim=True)


@word("ReduceMean", "ReduceSum")
def reduced(at: Reading) -> Node | None:
    """The mean or the sum over axes."""
    if at.follows(1):
        return None
    axes = at.numbers(1) if at.input(1) is not None else at.attr("axes")
    if not axes and at.attr("noop_with_empty_axes", 0):
        return at.same()
    name = "mean" if at.node.op_type == "ReduceMean" else "sum"
    return at.rule(name, self=at.input(0), dim=axes, keepdim=bool(at.attr("keepdims", 1)))


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@word("Pad")
def pad(at: Reading) -> Node | None:
    """Zeros, or the value's own elements, around it."""
    rank = len(at.out.dims)
    if at.version < 11:
        pads, value, axes = at.attr("pads"), at.attr("value", 0.0), list(range(rank))
    else:
        if any(at.follows(index) for index in (1, 2, 3)):
            return None
        pads = at.numbers(1)
        value = (at.numbers(2) or [0.0])[0] if at.input(2) is not None else 0.0
        axes = at.numbers(3) if isinstance(at.input(3), Constant) else None
        axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    if pads is None:
        return None
    sides = {axis: (pads[k], pads[k + len(axes)]) for k, axis in enumerate(axes)}
    amounts = [amount for axis in reversed(range(rank)) for amount in sides.get(axis, (0, 0))]
    mode = _MODES.get(at.attr("mode", "constant"))
    return None if mode is None else at.rule("pad", self=at.input(0), pad=amounts, mode=mode, value=value)


@word("Resize", "Upsample")
def resized(at: Reading) -> Node | None:
    """Every position a weighted mean of some: the weights add up to one."""
    source = at.source
    if source is None or at.attr("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return None
    before, rank = at.dims(source), len(at.out.dims)
    if rank < 3 or len(before) != rank or tuple(before[:2]) != tuple(at.out.dims[:2]):
        return None
    node = uniform(at.operation("resize", {"self": source}), source, rank - 2, ones=True)
    return replace(node, axes=()) if isinstance(node, Spatial) and _follows(at) else node


def _follows(at: Reading) -> Any:
    return any(at.follows(index) for index in range(1, len(at.inputs)))
