"""Feature mode: run every operator of an expression on a tensor, the way it is written."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convfold.algebra.operators import (
    Affine,
    AvgPool,
    Chain,
    Concat,
    Conv,
    ConvTranspose,
    Flat,
    Identity,
    Norm,
    Op,
    Pad,
    Pads,
    Select,
    Sum,
)
from convfold.algebra.readings.statistics import batch_statistics
from convfold.geometry import Axis

__all__ = ["apply", "per_channel", "uses_batch_statistics"]

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
_POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def apply(op: Op, x: Tensor) -> Tensor:
    """The value of `op` at `x`, of shape (N, C, *spatial) or (C, *spatial)."""
    return _READINGS[type(op)](op, x)


def per_channel(vector: Tensor, dims: int) -> Tensor:
    """View a vector (C,) as (C, 1, ...), to broadcast over `dims` spatial axes; maps stay as they are."""
    return vector.reshape(-1, *(1,) * dims) if vector.dim() == 1 else vector


def pad(x: Tensor, pads: Pads, mode: str = "zeros") -> Tensor:
    """Pad where positive, then crop where negative: a crop first would change what a mode reflects."""
    grow = [max(p, 0) for lo_hi in reversed(pads) for p in lo_hi]
    if any(grow):
        x = F.pad(x, grow, mode="constant" if mode == "zeros" else mode)
    for axis, (lo, hi) in enumerate(pads, start=x.dim() - len(pads)):
        start, stop = max(-lo, 0), x.shape[axis] + min(hi, 0)
        if start > 0 or stop < x.shape[axis]:
            x = x.narrow(axis, start, stop - start)
    return x


def _pads(window: tuple[Axis, ...]) -> Pads:
    return tuple((axis.lo, axis.hi) for axis in window)


def _padded(x: Tensor, window: tuple[Axis, ...], mode: str) -> tuple[Tensor, tuple[int, ...]]:
    """The input and the symmetric zero padding left for the library's own convolution."""
    if mode == "zeros" and all(axis.lo == axis.hi >= 0 for axis in window):
        return x, tuple(axis.lo for axis in window)
    return pad(x, _pads(window), mode), (0,) * len(window)


def _conv(op: Conv, x: Tensor) -> Tensor:
    if not op.window:
        return _linear(op, x)
    x, padding = _padded(x, op.window, op.padding_mode)
    stride, dilation = tuple(a.stride for a in op.window), tuple(a.dilation for a in op.window)
    return _CONV[op.dims](x, op.weight, op.bias, stride, padding, dilation, op.groups)


def _linear(op: Conv, x: Tensor) -> Tensor:
    if op.groups == 1:
        return F.linear(x, op.weight, op.bias)
    blocks = op.weight.reshape(op.groups, -1, op.weight.shape[1])
    grouped = x.reshape(*x.shape[:-1], op.groups, -1)
    y = torch.einsum("goi,...gi->...go", blocks, grouped).reshape(*x.shape[:-1], op.out_channels)
    return y if op.bias is None else y + op.bias


def _conv_transpose(op: ConvTranspose, x: Tensor) -> Tensor:
    stride, dilation = tuple(a.stride for a in op.window), tuple(a.dilation for a in op.window)
    # Output padding is limited by the library; without padding, a crop gives every (lo, hi).
    y = _TRANSPOSED[op.dims](x, op.weight, None, stride, 0, 0, op.groups, dilation)
    y = pad(y, tuple((-axis.lo, -axis.hi) for axis in op.window))
    return y if op.bias is None else y + per_channel(op.bias, op.dims)


def _affine(op: Affine, x: Tensor) -> Tensor:
    if op.scale is not None:
        x = x * per_channel(op.scale, op.dims).to(x)
    if op.shift is not None:
        x = x + per_channel(op.shift, op.dims).to(x)
    return x


def uses_batch_statistics(module: nn.Module) -> bool:
    """Whether this batch normalisation normalises with the batch at hand: in training, or without statistics."""
    return bool(module.training or getattr(module, "running_mean", None) is None)


def _norm(op: Norm, x: Tensor) -> Tensor:
    if x.dim() == op.dims + 1:
        return _norm(op, x.unsqueeze(0)).squeeze(0)
    if op.ring is None or not uses_batch_statistics(op.module):
        return op.module(x)  # type: ignore[no-any-return]
    inner = pad(x, tuple((-lo, -hi) for lo, hi in op.ring))
    y = op.module(inner)
    mean, variance = batch_statistics(op.module, inner)
    module: Any = op.module
    # The ring holds one value per channel: read it at a corner of the ring.
    corner = x[0]
    for lo, _ in reversed(op.ring):
        corner = corner[..., 0 if lo > 0 else -1]
    response = (corner - mean) * torch.rsqrt(variance + module.eps)
    if module.weight is not None:
        response = response * module.weight
    if module.bias is not None:
        response = response + module.bias
    return _pad_value(y, op.ring, response.to(y.dtype))


def _avg_pool(op: AvgPool, x: Tensor) -> Tensor:
    kernel = tuple(a.kernel for a in op.window)
    if op.is_native:
        stride, padding = tuple(a.stride for a in op.window), tuple(a.lo for a in op.window)
        divisor = () if op.divisor is None else (op.divisor,)
        return _POOL[op.dims](x, kernel, stride, padding, op.ceil_mode, op.count_include_pad, *divisor)
    ones = Conv(x.new_ones(op.channels, 1, *kernel), None, op.window, op.channels, op.padding_mode)
    if op.count_include_pad or op.divisor is not None or op.padding_mode != "zeros":
        return _conv(ones, x) / (op.divisor or prod(kernel))
    return _conv(ones, x) / _conv(ones, torch.ones_like(x))


def _pad_value(x: Tensor, pads: Pads, value: Tensor) -> Tensor:
    """Pad x with one value per channel, leaving x itself exact: ``pad(x, 0) + value * (1 outside, 0 inside)``."""
    outside = 1 - pad(x.new_ones(1, *x.shape[x.dim() - len(pads) :]), pads)
    return pad(x, pads) + per_channel(value, len(pads)).to(x) * outside


def _pad(op: Pad, x: Tensor) -> Tensor:
    return pad(x, op.pads, op.mode) if op.value is None else _pad_value(x, op.pads, op.value)


def _select(op: Select, x: Tensor) -> Tensor:
    axis = x.dim() - 1 - op.dims
    first, count = op.index[0], len(op.index)
    if op.index == tuple(range(first, first + count)):
        return x.narrow(axis, first, count)
    return x.index_select(axis, torch.tensor(op.index, device=x.device))


def _sum(op: Sum, x: Tensor) -> Tensor:
    total = apply(op.terms[0], x)
    for term in op.terms[1:]:
        total = total + apply(term, x)
    return total


def _concat(op: Concat, x: Tensor) -> Tensor:
    return torch.cat([apply(term, x) for term in op.terms], dim=x.dim() - 1 - op.dims)


def _chain(op: Chain, x: Tensor) -> Tensor:
    for part in op.parts:
        x = apply(part, x)
    return x


def _flat(op: Flat, x: Tensor) -> Tensor:
    maps = x.reshape(-1, op.inner.in_channels, *op.size)
    return apply(op.inner, maps).reshape(*x.shape[:-1], op.out_channels)


def _identity(op: Identity, x: Tensor) -> Tensor:
    return x


_READINGS: dict[type, Callable[[Any, Tensor], Tensor]] = {
    Affine: _affine,
    AvgPool: _avg_pool,
    Chain: _chain,
    Concat: _concat,
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Flat: _flat,
    Identity: _identity,
    Norm: _norm,
    Pad: _pad,
    Select: _select,
    Sum: _sum,
}
