"""Following recipes: the tensors of a map or a bias, in float64, by the laws of the algebra.

Nothing here recurses: a chain of ten thousand operators is a recipe of that depth.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

from convfold.algebra import Affine, Conv, ConvTranspose, Identity, Op, Select, apply, kernel
from convfold.algebra.laws.compose import push_bias, regroup
from convfold.algebra.laws.merge import join_rows
from convfold.algebra.laws.special import as_conv
from convfold.geometry import Window, point
from convfold.graph.maps import After, Block, Columns, Given, Map, Plus, Rows, Seen
from convfold.graph.program import Shift, ShiftGiven, ShiftJoin, ShiftMap, ShiftPart, ShiftPlus, inner_shifts

__all__ = ["Weights"]

Tensors = Callable[[Hashable, torch.dtype], Tensor]
Item = TypeVar("Item", Map, Shift)


class Weights:
    """Evaluates maps and biases over the frontend's `tensors`, a function of key and dtype.

    Results are kept while this object lives: make one per region, so that no more than a region is held.
    """

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors
        self._ops: dict[tuple[int, int, int], tuple[Map, Op]] = {}
        self._shifts: dict[int, tuple[Shift, Tensor]] = {}

    def op(self, m: Map, dims: int, channels: int) -> Op:
        """The map as an operator without a bias on `dims` spatial axes, reading `channels` channels.

        A diagonal is an Affine, a selection a Select, an identity an Identity; all else a Conv or ConvTranspose.
        """
        stack = [(m, channels)]
        while stack:
            current, width = stack[-1]
            key = (id(current), dims, width)
            if key in self._ops:
                stack.pop()
                continue
            needs = list(_needs(current, width))
            missing = [need for need in needs if (id(need[0]), dims, need[1]) not in self._ops]
            if missing:
                stack += missing
                continue
            parts = [self._ops[id(need), dims, wide][1] for need, wide in needs]
            # The map is held too: an identity number is only unique while its object lives.
            self._ops[key] = (current, self._build(current, parts, dims, width))
            stack.pop()
        return self._ops[id(m), dims, channels][1]

    def conv(self, m: Map, dims: int, channels: int) -> Conv | ConvTranspose:
        """The map as one convolution or transposed convolution without a bias."""
        op = self.op(m, dims, channels)
        return op if isinstance(op, (Conv, ConvTranspose)) else as_conv(op, torch.empty(0, dtype=torch.float64))

    def vector(self, shift: Shift, channels: int) -> Tensor:
        """The bias as (C,), one element for each channel or one for all; a `ShiftMap` as (C, *positions)."""
        stack = [shift]
        while stack:
            current = stack[-1]
            if id(current) in self._shifts:
                stack.pop()
                continue
            missing = [need for need in inner_shifts(current) if id(need) not in self._shifts]
            if missing:
                stack += missing
                continue
            self._shifts[id(current)] = (current, self._shift(current))
            stack.pop()
        found = self._shifts[id(shift)][1]
        return found.reshape(-1).expand(channels) if found.numel() == 1 else found

    def _build(self, m: Map, parts: list[Op], dims: int, width: int) -> Op:
        if m.kind == "identity":
            return Identity(width, dims)
        if m.kind == "select":
            assert m.index is not None
            return Select(m.index, m.cols, dims)
        if m.kind == "scalar":
            return Affine(self._scalar(m, parts).reshape(-1)[:1].expand(width), None, dims)
        recipe = m.recipe
        if isinstance(recipe, Given):
            return self._given(m, recipe, dims)
        if isinstance(recipe, Seen):
            return self._seen(m, recipe, dims)
        if isinstance(recipe, Block):
            return _block(parts[0], recipe, m)
        if isinstance(recipe, Columns):
            convs = [as_conv(part, _LIKE) for part in parts]
            weights = [regroup(conv.weight, conv.groups, 1) for conv in convs]
            return Conv(torch.cat(weights, dim=1), None, _widest(convs), 1)
        if isinstance(recipe, Rows):
            return join_rows(tuple(as_conv(part, _LIKE) for part in parts))
        if m.kind == "diagonal":
            scales = [_scale(part) for part in parts]
            whole = scales[0] * scales[1] if isinstance(recipe, After) else sum(scales[1:], scales[0])
            return Affine(whole, None, dims)
        if isinstance(recipe, After):
            return kernel(parts[0] >> parts[1], like=_LIKE)
        assert isinstance(recipe, Plus)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return kernel(total, like=_LIKE)

    def _scalar(self, m: Map, parts: list[Op]) -> Tensor:
        if m.factor is not None:
            return torch.full((1,), m.factor, dtype=torch.float64)
        if isinstance(m.recipe, Given):
            return self._tensors(m.recipe.key, torch.float64)
        scales = [_scale(part) for part in parts]
        return scales[0] * scales[1] if isinstance(m.recipe, After) else sum(scales[1:], scales[0])

    def _seen(self, m: Map, recipe: Seen, dims: int) -> Op:
        inner = self.op(recipe.inner, len(recipe.inner.window), recipe.inner.cols)
        if isinstance(inner, (Affine, Identity)):
            scale = _scale(inner)
            return Affine(scale.repeat_interleave(m.rows // scale.shape[0]), None, dims)
        if isinstance(inner, Select):
            return Select(inner.index, inner.in_channels, dims)
        conv = as_conv(inner, _LIKE)
        return Conv(conv.weight.reshape(*conv.weight.shape[:2], *(1,) * dims), None, point(dims), conv.groups)

    def _given(self, m: Map, recipe: Given, dims: int) -> Op:
        if m.kind == "pool":
            assert isinstance(recipe.key, tuple)
            taps = tuple(axis.kernel for axis in m.window)
            weight = torch.full((m.rows, 1, *taps), 1.0 / recipe.key[1], dtype=torch.float64)
            return Conv(weight, None, m.window, m.groups)
        tensor = self._tensors(recipe.key, torch.float64)
        if m.kind == "diagonal":
            return Affine(tensor.reshape(-1), None, dims)
        window = m.window
        if tensor.dim() < dims + 2:
            tensor = tensor.reshape(*tensor.shape, *(1,) * (dims + 2 - tensor.dim()))
            window = (*window, *point(dims - len(window)))
        kind = ConvTranspose if m.kind == "transposed" else Conv
        return kind(tensor, None, window, m.groups)

    def _shift(self, shift: Shift) -> Tensor:
        if isinstance(shift, ShiftGiven):
            return self._tensors(shift.key, torch.float64).reshape(-1)
        if isinstance(shift, ShiftPlus):
            vectors = [self._shifts[id(part)][1] for part in shift.shifts]
            rank = max(vector.dim() for vector in vectors)
            return sum(v.reshape(*v.shape, *(1,) * (rank - v.dim())) for v in vectors)  # type: ignore[return-value]
        if isinstance(shift, ShiftJoin):
            return torch.cat([self._joined(part, width) for part, width in shift.parts])
        inner = self._shifts[id(shift.shift)][1]
        if isinstance(shift, ShiftPart):
            return inner if inner.numel() == 1 else inner[shift.start : shift.stop]
        m = shift.map
        if m.kind == "identity":
            return inner
        if inner.dim() > 1:
            return self._mapped(m, inner)
        dims = len(m.window)
        width = m.cols or inner.numel()
        vector = inner.expand(width) if inner.numel() == 1 and width > 1 else inner
        op = self.op(m, dims, width)
        if isinstance(shift, ShiftMap):
            constant = vector.reshape(1, -1, *(1,) * dims).expand(1, -1, *shift.size)
            return apply(op, constant).squeeze(0)
        if isinstance(op, Affine):
            return _scale(op) * vector
        if isinstance(op, Select):
            return vector[torch.tensor(op.index)]
        if isinstance(op, ConvTranspose):
            return apply(op, vector.reshape(1, -1, *(1,) * dims)).reshape(-1)
        assert isinstance(op, Conv)
        return push_bias(vector, op, "chain")

    def _mapped(self, m: Map, inner: Tensor) -> Tensor:
        """The response of a map to a bias that differs from position to position already."""
        dims = inner.dim() - 1
        width = m.cols or inner.shape[0]
        op = self.op(m, dims, width)
        return apply(op, inner.expand(width, *inner.shape[1:]).unsqueeze(0)).squeeze(0)

    def _joined(self, part: Shift | None, width: int) -> Tensor:
        return torch.zeros(width, dtype=torch.float64) if part is None else self.vector(part, width)


_LIKE = torch.empty(0, dtype=torch.float64)


def _widest(convs: list[Conv]) -> Window:
    return max((conv.window for conv in convs), key=lambda window: prod(axis.kernel for axis in window))


def _scale(op: Op) -> Tensor:
    if isinstance(op, Identity):
        return torch.ones(op.channels, dtype=torch.float64)
    assert isinstance(op, Affine)
    assert op.scale is not None
    return op.scale


def _needs(m: Map, width: int) -> Iterable[tuple[Map, int]]:
    """The maps that a recipe is made of, with the channels that each reads."""
    recipe = m.recipe
    if isinstance(recipe, After):
        return (recipe.first, width), (recipe.second, recipe.first.rows or width)
    if isinstance(recipe, (Plus, Rows)):
        return [(part, width) for part in recipe.maps]
    if isinstance(recipe, Columns):
        return [(part, wide) for part, wide in zip(recipe.maps, recipe.widths, strict=True)]
    if isinstance(recipe, Block):
        return ((recipe.whole, recipe.whole.cols),)
    return ()


def _block(whole: Op, recipe: Block, m: Map) -> Op:
    start, stop = recipe.start, recipe.stop
    if isinstance(whole, Affine):
        return Affine(_scale(whole)[start:stop], None, whole.dims)
    assert isinstance(whole, Conv)
    if not recipe.diagonal:
        return Conv(whole.weight[:, start:stop], None, whole.window, 1)
    wide, high = whole.in_channels // whole.groups, whole.out_channels // whole.groups
    rows = slice(start // wide * high, stop // wide * high)
    return Conv(whole.weight[rows], None, whole.window, m.groups)
