"""Transposed convolutions: what may stand after them, and what may not stand before."""

from __future__ import annotations

import torch
from torch import Tensor

from convfold.algebra.laws.compose import add_biases, regroup
from convfold.algebra.laws.scale import no_map
from convfold.algebra.operators import Affine, Conv, ConvTranspose
from convfold.errors import NotFoldable, Refusal
from convfold.geometry import chain_groups

__all__ = [
    "affine_after_transposed",
    "pointwise_after_transposed",
    "transposed_after_affine",
    "transposed_after_pointwise",
]


def affine_after_transposed(conv: ConvTranspose, affine: Affine) -> ConvTranspose:
    """BN after: ``W'[i, o] = s[o] W[i, o]`` within each group, ``b' = s b + t``. The scale acts on outputs."""
    no_map(affine)
    weight, bias = conv.weight, conv.bias
    if affine.scale is not None:
        blocks = weight.reshape(conv.groups, -1, *weight.shape[1:])
        per_group = affine.scale.to(weight).reshape(conv.groups, 1, -1, *(1,) * conv.dims)
        weight = (blocks * per_group).reshape(weight.shape)
        bias = None if bias is None else bias * affine.scale.to(bias)
    shift = None if affine.shift is None else affine.shift.to(weight)
    return ConvTranspose(weight, add_biases(bias, shift), conv.window, conv.groups)


def _bias_before() -> NotFoldable:
    return NotFoldable(
        Refusal(
            "ConvTranspose",
            "a bias before it reaches different outputs through different taps, so it is no constant bias",
            hint="A channel of ones carries it exactly.",
        )
    )


def transposed_after_affine(affine: Affine, conv: ConvTranspose) -> ConvTranspose:
    """A scale before: ``W'[i, o] = s[i] W[i, o]``. A shift before is refused: it is no constant bias after."""
    if affine.shift is not None or affine.scale is None:
        raise _bias_before()
    scale = affine.scale.to(conv.weight).reshape(-1, *(1,) * (conv.weight.dim() - 1))
    return ConvTranspose(conv.weight * scale, conv.bias, conv.window, conv.groups)


def _matrix(conv: Conv, groups: int) -> Tensor:
    """(groups, C_out/groups, C_in/groups)"""
    if any((axis.kernel, axis.stride, axis.lo, axis.hi) != (1, 1, 0, 0) for axis in conv.window):
        raise NotFoldable(Refusal("ConvTranspose", "only a 1x1 convolution of stride 1 merges with it"))
    weight = regroup(conv.weight, conv.groups, groups)
    return weight.reshape(groups, -1, weight.shape[1])


def _blocks(conv: ConvTranspose, groups: int) -> Tensor:
    """(groups, C_in/groups, C_out/groups, taps)"""
    weight = regroup(conv.weight, conv.groups, groups)
    return weight.reshape(groups, -1, weight.shape[1], conv.weight[0, 0].numel())


def pointwise_after_transposed(first: ConvTranspose, second: Conv) -> ConvTranspose:
    """A 1x1 after: ``W'[i, p] = sum_o A[p, o] W[i, o]``, ``b' = A b + a``."""
    groups = chain_groups(first.groups, second.groups)
    matrix = _matrix(second, groups)
    weight = torch.einsum("giok,gpo->gipk", _blocks(first, groups), matrix)
    pushed = None if first.bias is None else (matrix * first.bias.reshape(groups, 1, -1)).sum(-1).reshape(-1)
    shape = (first.in_channels, -1, *first.weight.shape[2:])
    return ConvTranspose(weight.reshape(shape), add_biases(pushed, second.bias), first.window, groups)


def transposed_after_pointwise(first: Conv, second: ConvTranspose) -> ConvTranspose:
    """A 1x1 without bias before: ``W'[j, o] = sum_i A[i, j] W[i, o]``. With a bias it is refused."""
    if first.bias is not None:
        raise _bias_before()
    groups = chain_groups(first.groups, second.groups)
    weight = torch.einsum("gij,giok->gjok", _matrix(first, groups), _blocks(second, groups))
    shape = (first.in_channels, -1, *second.weight.shape[2:])
    return ConvTranspose(weight.reshape(shape), second.bias, second.window, groups)
