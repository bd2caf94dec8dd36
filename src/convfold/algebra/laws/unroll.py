"""A convolution on maps of one size is a fully connected layer: sparse, with shared weights, written out."""

from __future__ import annotations

from math import prod

import torch

from convfold.algebra.operators import Affine, Conv
from convfold.algebra.readings.apply import apply
from convfold.geometry import out_size

__all__ = ["repeat", "unroll"]


def unroll(conv: Conv, size: tuple[int, ...]) -> Conv:
    """The fully connected layer equal to `conv` on maps of `size`: ``W[(o, i), (c, j)] = K[o, c, j - s*i + lo]``.

    Found by running the convolution on the unit maps of one group, which all groups share; groups stay groups.
    The matrix takes ``C_out * prod(out) * C_in/g * prod(size)`` numbers: for 3x3 on 64 dense channels of 14 x 14 that
    is 157 million where the kernel has 37 thousand.
    """
    width, positions = conv.in_channels // conv.groups, prod(size)
    units = torch.eye(width * positions, dtype=conv.weight.dtype, device=conv.weight.device)
    units = units.reshape(-1, width, *size).repeat(1, conv.groups, *(1,) * conv.dims)
    plain = Conv(conv.weight, None, conv.window, conv.groups, conv.padding_mode)
    weight = apply(plain, units).reshape(width * positions, -1).T
    bias = None if conv.bias is None else conv.bias.repeat_interleave(prod(out_size(conv.window, size)))
    return Conv(weight, bias, (), conv.groups)


def repeat(affine: Affine, size: tuple[int, ...]) -> Affine:
    """A per-channel affine map on maps of `size`, per feature: each value repeated ``prod(size)`` times."""
    scale, shift = affine.scale, affine.shift
    if scale is not None:
        scale = scale.repeat_interleave(prod(size))
    if shift is not None:
        shift = shift.repeat_interleave(prod(size)) if shift.dim() == 1 else shift.flatten()
    return Affine(scale, shift, 0)
