"""Operators that are convolutions in disguise: batch normalisation, pooling, identity, padding, Linear."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from convfold.algebra.laws.scale import no_map
from convfold.algebra.operators import Affine, AvgPool, Conv, Identity, Norm, Op, Pad, Select
from convfold.errors import InvalidArgument, NotFoldable, Refusal
from convfold.geometry import Axis, has_padding, point

__all__ = ["as_conv", "as_full_map", "as_pointwise", "norm_as_affine", "pool_as_conv"]


def norm_as_affine(norm: Norm, dtype: torch.dtype | None = None) -> Affine:
    """Batch normalisation with running statistics: ``s = gamma/sqrt(var + eps)``, ``t = beta - mean*s``.

    Raises NotFoldable for a module without running statistics.
    """
    module: Any = norm.module
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None:
        raise NotFoldable(
            Refusal(
                type(module).__name__,
                "it keeps no running statistics, so it is no fixed linear map",
                hint="Build it with track_running_stats=True and let it see data.",
            )
        )
    if dtype is not None:
        mean, variance = mean.to(dtype), variance.to(dtype)
    scale = torch.rsqrt(variance + module.eps)
    if module.weight is not None:
        scale = scale * module.weight.to(scale.dtype)
    shift = -mean * scale if module.bias is None else module.bias.to(scale.dtype) - mean * scale
    return Affine(scale, shift, norm.dims)


def pool_as_conv(pool: AvgPool, like: Tensor) -> Conv:
    """Average pooling is the depthwise convolution ``W[c, 0, j] = 1/divisor``.

    Raises NotFoldable where the divisor varies over the map (ceil_mode, or padding that is not counted).
    """
    counted = pool.count_include_pad or pool.divisor is not None or pool.padding_mode != "zeros"
    if pool.ceil_mode or not (counted or not has_padding(pool.window)):
        cause = "ceil_mode lets" if pool.ceil_mode else "count_include_pad=False lets"
        raise NotFoldable(
            Refusal("AvgPool", f"{cause} its divisor vary over the map", hint="Count the padding, without ceil_mode.")
        )
    taps = tuple(axis.kernel for axis in pool.window)
    weight = like.new_full((pool.channels, 1, *taps), 1.0 / (pool.divisor or prod(taps)))
    return Conv(weight, None, pool.window, pool.channels, pool.padding_mode)


def _diagonal(scale: Tensor, shift: Tensor | None, window: tuple[Axis, ...], mode: str = "zeros") -> Conv:
    return Conv(scale.reshape(-1, 1, *(1,) * len(window)), shift, window, scale.shape[0], mode)


def as_conv(op: Op, like: Tensor) -> Conv:
    """Any pointwise or pooling operator as a convolution in the dtype and on the device of `like`.

    * identity: ``W[c, 0] = 1`` with C groups; * affine: ``W[c, 0] = s[c]``, ``b = t``;
    * padding or a crop: the identity with that padding; * selection: one-hot rows; * pooling: constant taps.
    """
    if isinstance(op, Conv):
        return op
    if isinstance(op, Identity):
        return _diagonal(like.new_ones(op.channels), None, point(op.dims))
    if isinstance(op, Affine):
        no_map(op)
        scale = like.new_ones(op.in_channels) if op.scale is None else op.scale.to(like)
        return _diagonal(scale, None if op.shift is None else op.shift.to(like), point(op.dims))
    if isinstance(op, Pad) and op.value is None:
        return _diagonal(like.new_ones(op.channels), None, op.window, op.mode)
    if isinstance(op, AvgPool):
        return pool_as_conv(op, like)
    if isinstance(op, Select):
        index = torch.tensor(op.index, device=like.device)
        rows = torch.nn.functional.one_hot(index, op.in_channels).to(like)
        return Conv(rows.reshape(*rows.shape, *(1,) * op.dims), None, point(op.dims))
    if isinstance(op, Pad):
        raise NotFoldable(Refusal("Pad", "padding with a value that is not the response to zero before it"))
    raise NotFoldable(Refusal(type(op).__name__, "it is not a convolution"))


def as_pointwise(linear: Conv, dims: int) -> Conv:
    """A fully connected layer on every position is a 1x1 convolution: ``W[o, i, 0] = W[o, i]``."""
    return Conv(linear.weight.reshape(*linear.weight.shape, *(1,) * dims), linear.bias, point(dims), linear.groups)


def as_full_map(linear: Conv, channels: int, size: tuple[int, ...]) -> Conv:
    """A fully connected layer on a flattened map is a convolution whose kernel is the whole map.

    ``y[o] = sum_{c,j} W[o, c*prod(size) + j] x[c, j]``; input (N, channels, *size), output 1 on every axis.
    """
    if linear.groups != 1 or linear.in_channels != channels * prod(size):
        raise InvalidArgument(
            "the fully connected layer does not read this map",
            got=f"{linear.in_channels} inputs in {linear.groups} groups",
            expected=f"{channels} x {' x '.join(map(str, size))} = {channels * prod(size)} in one group",
        )
    window = tuple(Axis(n) for n in size)
    return Conv(linear.weight.reshape(-1, channels, *size), linear.bias, window)
