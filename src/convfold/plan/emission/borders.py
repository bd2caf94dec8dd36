"""Biases that are not constant: where along each axis they differ, and their maps at any size."""

from __future__ import annotations

import torch
from torch import Tensor

from convfold.algebra import apply
from convfold.graph.program import Shift, ShiftJoin, ShiftMap, ShiftPart, ShiftThrough, inner_shifts
from convfold.graph.weights import Weights

__all__ = ["borders_of", "respond"]

Borders = tuple[tuple[int, int], ...]


def borders_of(shift: Shift, dims: int) -> Borders | None:
    """How many positions at either end of each axis the bias differs at; None where a stride makes that depend.

    The zero padding of a chain adds up: ``lo_1 + lo_2`` positions at the start, ``hi_1 + hi_2`` at the end.
    """
    if not shift.mapped:
        return ((0, 0),) * dims
    found = [borders_of(part, dims) for part in inner_shifts(shift)]
    known = [sides for sides in found if sides is not None]
    window = shift.map.window if isinstance(shift, (ShiftMap, ShiftThrough)) else ()
    if len(known) < len(found) or any(axis.stride != 1 for axis in window):
        return None
    most = tuple((max(s[axis][0] for s in known), max(s[axis][1] for s in known)) for axis in range(dims))
    added = [(max(axis.lo, 0), max(axis.hi, 0)) for axis in window] or [(0, 0)] * dims
    return tuple((lo + left, hi + right) for (lo, hi), (left, right) in zip(most, added, strict=True))


def respond(shift: Shift, size: tuple[int, ...], weights: Weights) -> Tensor | None:
    """The bias as (C, *size), positions that do not matter 1, where its result has `size` positions.

    All strides are one (see `borders_of`). None where no input gives a result of that size.
    """
    if not shift.mapped:
        return weights.vector(shift, 1).reshape(-1, *(1,) * len(size))
    if isinstance(shift, (ShiftMap, ShiftThrough)):
        window = shift.map.window or ()
        before = tuple(n - axis.slack - 1 for n, axis in zip(size, window, strict=True)) if window else size
        inner = respond(shift.shift, before, weights) if min(before) >= 1 else None
        if inner is None:
            return None
        width = shift.map.cols or inner.shape[0]
        op = weights.op(shift.map, len(size), width)
        return apply(op, inner.expand(width, *before).unsqueeze(0)).squeeze(0)
    if isinstance(shift, ShiftJoin):
        flat = [(_zero(size) if part is None else respond(part, size, weights), width) for part, width in shift.parts]
        if any(part is None for part, _ in flat):
            return None
        return torch.cat([part.expand(width, *size) for part, width in flat if part is not None])
    parts = [respond(part, size, weights) for part in inner_shifts(shift)]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if isinstance(shift, ShiftPart):
        return known[0] if known[0].shape[0] == 1 else known[0][shift.start : shift.stop]
    total = known[0]
    for part in known[1:]:
        total = total + part
    return total


def _zero(size: tuple[int, ...]) -> Tensor:
    return torch.zeros(1, *(1,) * len(size), dtype=torch.float64)
