"""Factors of a kernel: their product, and how far rounding may carry it from what was computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convfold.transform.decompose.frame import Frame, Part

__all__ = ["Solution", "compose", "gamma", "longest", "norm", "stored"]

UNIT = torch.finfo(torch.float64).eps / 2


@dataclass(frozen=True)
class Solution:
    """The factors of one frame in float64, with what is known of ``||W - product||_F`` before the product is formed.

    `tail` is what the mathematics gives (of the singular values left out, or the residual that was measured);
    `rounding` is how far the numbers that were computed may be from those of the mathematics.
    """

    frame: Frame
    weights: tuple[Tensor, ...]
    tail: float
    rounding: float = 0.0


def norm(tensor: Tensor) -> float:
    """The Frobenius norm."""
    return float(torch.linalg.vector_norm(tensor))


def gamma(roundings: int) -> float:
    """``gamma_L = L*u / (1 - L*u)`` in float64: the relative error of L operations in a row (Higham, section 3.1)."""
    return roundings * UNIT / (1 - roundings * UNIT)


def longest(parts: Sequence[Part]) -> int:
    """Operations on the longest path to an entry of the product, the scaling of factors by roots included."""
    return 3 * len(parts) + sum(part.inputs // part.groups for part in parts[1:])


def compose(parts: Sequence[Part], weights: Sequence[Tensor], groups: int) -> Tensor:
    """The product of factors, a kernel (groups, rows, columns, *k): every axis has its window in one part alone.

    ``W[o, c, x] = sum over the channels between of the product of the parts' weights``. Differentiable.
    """
    whole = _blocks(parts[0], weights[0], groups)
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        factor = _blocks(part, weight, groups)
        kernel = factor.shape[4:]
        if factor.shape[1] == 1:  # reads all channels of its group; what came before may stand in blocks
            blocks, between = whole.shape[1], whole.shape[2]
            factor = factor.reshape(groups, factor.shape[2], blocks, between, *kernel)
            product = torch.einsum("gnqo...,gqoi...->gnqi...", factor, whole)
            whole = product.reshape(groups, 1, product.shape[1], blocks * whole.shape[3], *product.shape[4:])
        else:  # reads the channels of its block alone
            blocks, reads = factor.shape[1], factor.shape[3]
            before = whole.reshape(groups, blocks, reads, *whole.shape[3:])
            product = torch.einsum("gqoi...,gqic...->gqoc...", factor, before)
            whole = product.reshape(groups, 1, blocks * factor.shape[2], *product.shape[3:])
    return whole.reshape(groups, -1, whole.shape[1] * whole.shape[3], *whole.shape[4:])


def _blocks(part: Part, weight: Tensor, groups: int) -> Tensor:
    """(groups, blocks in a group, outputs of a block, inputs of a block, *k)"""
    blocks = part.groups // groups
    return weight.reshape(groups, blocks, part.outputs // part.groups, part.inputs // part.groups, *weight.shape[2:])


def stored(weights: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What remains of factors that are kept in `dtype`, in float64 again."""
    return tuple(weight.to(dtype).to(torch.float64) for weight in weights)
