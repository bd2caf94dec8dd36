"""How many roundings lie on the longest path through an expression."""

from __future__ import annotations

from math import prod

from convfold.algebra.operators import Affine, AvgPool, Chain, Concat, Conv, ConvTranspose, Flat, Norm, Op, Sum

__all__ = ["path_length"]


def path_length(op: Op) -> int:
    """Multiplications and additions on the longest path: the L of the bound ``gamma_L = L*u/(1 - L*u)``.

    A convolution adds ``C_in/g * taps`` products and a bias, a per-channel affine map counts two, a batch
    normalisation five, a sum of n branches n - 1.
    """
    if isinstance(op, Chain):
        return sum(path_length(part) for part in op.parts)
    if isinstance(op, Sum):
        return max(path_length(term) for term in op.terms) + len(op.terms) - 1
    if isinstance(op, Concat):
        return max(path_length(term) for term in op.terms)
    if isinstance(op, Flat):
        return path_length(op.inner)
    if isinstance(op, Conv):
        return op.weight[0].numel() + 1
    if isinstance(op, ConvTranspose):
        return op.weight[:, 0].numel() // op.groups + 1
    if isinstance(op, AvgPool):
        return prod(axis.kernel for axis in op.window) + 1
    return {Affine: 2, Norm: 5}.get(type(op), 0)
