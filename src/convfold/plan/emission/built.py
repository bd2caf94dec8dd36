"""What a part of an emitted statement is: a convolution, a scale, a shift, or a map of a bias."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import Conv, ConvTranspose
from convfold.algebra.readings.module import as_module
from convfold.graph.maps import Map
from convfold.graph.program import Program
from convfold.graph.weights import Weights
from convfold.plan.emission.border_bias import BorderBias
from convfold.plan.emission.borders import borders_of, respond
from convfold.plan.emission.sums import Part, pads_apart, widened

__all__ = ["border", "convolution", "vector"]


def convolution(
    part: Part, weights: Weights | None, dtype: torch.dtype, device: torch.device | None, like: nn.Module | None = None
) -> nn.Module:
    """The convolution with its bias; spelled as `like` where that is given, on meta tensors without `weights`."""
    assert part.term is not None
    m = part.term.map
    window = widened(m, part.dims)
    shape = _hollow(m, window, part, dtype)
    if pads_apart(m):
        shape = replace(shape, window=tuple(axis.shifted(-axis.lo, -axis.hi) for axis in window))
    mode = "zeros"
    if part.padding is not None:
        assert isinstance(shape, Conv)
        mode, pads = part.padding.mode, zip(window, part.padding.pads, strict=True)
        shape = replace(shape, window=tuple(axis.shifted(p, p) for axis, p in pads), padding_mode=mode)
    # Built without memory, so that no time goes into numbers that are replaced at once. A mode of padding that pads
    # nothing is executed all the same.
    module: Any = as_module(shape, None if getattr(like, "padding_mode", "zeros") != mode else like)
    if weights is not None:
        module.weight = nn.Parameter(weights.conv(m, part.dims, m.cols).weight.to(device=device, dtype=dtype))
        if part.shift is not None:
            module.bias = nn.Parameter(weights.vector(part.shift, m.rows).to(device=device, dtype=dtype))
    return module  # type: ignore[no-any-return]


def vector(program: Program, part: Part, weights: Weights | None) -> Tensor:
    """A scale or a shift in float64, shaped so that it lies on its axis."""
    shape = program.values[part.value].shape
    m = part.term.map if part.term is not None else None
    axis = part.axis if m is None or m.kind != "scalar" else None
    count = 1 if axis is None else shape[axis]
    behind = 0 if axis is None else len(shape) - axis - 1
    if weights is None:
        found = torch.empty(count, device="meta")
    elif m is None:
        assert part.shift is not None
        found = weights.vector(part.shift, count)
    else:
        op: Any = weights.op(m, 0, count)
        found = op.scale[:1] if axis is None else op.scale
    return found.reshape(count, *(1,) * behind).clone()


def border(program: Program, part: Part, weights: Weights | None) -> BorderBias:
    """The map of a bias over positions, in float64."""
    assert part.shift is not None
    assert part.axis is not None
    channels, *planned = program.values[part.value].shape[part.axis :]
    source = program.values[program.nodes[part.value].inputs[0]].shape[part.axis + 1 :]
    borders = borders_of(part.shift, len(planned))

    def response(size: tuple[int, ...]) -> Tensor | None:
        if weights is None:
            return torch.empty(channels, *size, device="meta")
        found = respond(part.shift, size, weights)
        return None if found is None else found.expand(channels, *size)

    if borders is None and weights is not None:
        whole = weights.vector(part.shift, channels)
        return BorderBias(tuple(planned), lambda size: whole.expand(channels, *size), None, source)
    return BorderBias(tuple(planned), response, borders, source)


def _hollow(m: Map, window: Any, part: Part, dtype: torch.dtype) -> Conv | ConvTranspose:
    taps = tuple(axis.kernel for axis in window)
    lead = (m.cols, m.rows // m.groups) if m.kind == "transposed" else (m.rows, m.cols // m.groups)
    weight = torch.empty(*lead, *taps, device="meta", dtype=dtype)
    bias = None if part.shift is None else torch.empty(m.rows, device="meta", dtype=dtype)
    return (ConvTranspose if m.kind == "transposed" else Conv)(weight, bias, window, m.groups)
