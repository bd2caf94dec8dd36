"""Singular value decompositions that say how exact they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from convfold.transform.decompose.factors import gamma, norm

__all__ = ["Spectrum", "defect", "spectrum"]


@dataclass(frozen=True)
class Spectrum:
    """Thin singular value decompositions ``M = U diag(s) V^T`` of a stack of matrices (..., a, b).

    `residual` is ``||M - U diag(s) V^T||_F`` over the stack as it was computed, `stretch` the factor by which columns
    that are not quite orthonormal may lengthen what is left out.
    """

    left: Tensor
    values: Tensor
    right: Tensor
    residual: float
    stretch: float

    def tail(self, rank: int) -> float:
        """``sqrt(sum_{i > rank} s_i^2)`` over the stack: the least error of any approximation of that rank.

        Eckart and Young, The approximation of one matrix by another of lower rank, Psychometrika 1 (1936).
        """
        return norm(self.values[..., rank:]) * self.stretch

    def halves(self, rank: int) -> tuple[Tensor, Tensor]:
        """``U sqrt(s)`` (..., a, rank) and ``sqrt(s) V^T`` (..., rank, b): factors of one scale."""
        root = self.values[..., :rank].sqrt()
        return self.left[..., :rank] * root.unsqueeze(-2), root.unsqueeze(-1) * self.right[..., :rank, :]


def spectrum(matrices: Tensor) -> Spectrum:
    """The decompositions of a stack of float64 matrices, with what rounding did to them measured."""
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    again = (left * values.unsqueeze(-2)) @ right
    # Forming the product rounds by gamma * |U| s |V^T|, whose norm is at most the sum of s for each matrix.
    own = gamma(values.shape[-1] + 3) * norm(values.sum(-1))
    stretch = (1 + defect(left)) * (1 + defect(right.mT))
    return Spectrum(left, values, right, norm(matrices - again) + own, stretch)


def defect(columns: Tensor) -> float:
    """``max over the stack of ||Q^T Q - I||_F``: how far columns are from orthonormal."""
    gram = columns.mT @ columns
    gram -= torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    return float(torch.linalg.matrix_norm(gram).max()) if gram.numel() else 0.0
