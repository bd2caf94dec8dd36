"""A linear map as a chain of factors: the balanced start, gradients, and the preconditioner that depth induces.

Saxe et al., arXiv 1312.6120; Arora et al., arXiv 1802.06509 and 1810.02281. The derivation is in docs/depth.md.
All tensors are float64 here; maps and gradients may have leading dimensions for many chains at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from convfold.errors import InvalidArgument

__all__ = ["balanced", "gain", "gradients", "imbalance", "preconditioned", "product"]


def balanced(start: Tensor, depth: int) -> list[Tensor]:
    """Factors W_1, ..., W_N with ``W_N ... W_1 = start`` and ``W_{j+1}^T W_{j+1} = W_j W_j^T``.

    start (k, d) with ``start = U S V^T``: ``W_1 = S^(1/N) V^T``, ``W_N = U S^(1/N)``, the others ``S^(1/N)``, so the
    hidden width is min(k, d) and every map of that shape has such factors. Wider chains of a balanced start move
    the same: their further channels are zero on both sides and have no gradient. Raises InvalidArgument for a
    depth below 1.
    """
    if depth < 1:
        raise InvalidArgument("a chain has at least one factor", where="depth", got=depth, expected="1 or more")
    if depth == 1:
        return [start.clone()]
    left, values, right = torch.linalg.svd(start, full_matrices=False)
    root = values ** (1 / depth)
    return [root[:, None] * right, *(torch.diag(root) for _ in range(depth - 2)), left * root]


def product(factors: Sequence[Tensor]) -> Tensor:
    """``W_N ... W_1``."""
    return reduce(lambda done, factor: factor @ done, factors)


def gradients(factors: Sequence[Tensor], gradient: Tensor) -> list[Tensor]:
    """``dL/dW_j = (W_N ... W_{j+1})^T G (W_{j-1} ... W_1)^T`` of every factor, G = `gradient` the end-to-end map's."""
    below: list[Tensor | None] = [None]
    for factor in factors[:-1]:
        last = below[-1]
        below.append(factor if last is None else factor @ last)
    found = []
    for factor, inner in zip(reversed(factors), reversed(below), strict=True):
        found.append(gradient if inner is None else gradient @ inner.mT)
        gradient = factor.mT @ gradient
    return found[::-1]


def imbalance(factors: Sequence[Tensor]) -> float:
    """The largest ``|W_{j+1}^T W_{j+1} - W_j W_j^T|`` over the pairs (Frobenius norm), which gradient flow keeps."""
    pairs = zip(factors[1:], factors[:-1], strict=True)
    return max((float((after.mT @ after - before @ before.mT).norm()) for after, before in pairs), default=0.0)


def preconditioned(weight: Tensor, gradient: Tensor, depth: int) -> Tensor:
    """``P_W(G) = sum_{j=1..N} (W W^T)^((N-j)/N) G (W^T W)^((j-1)/N)``, the velocity of a balanced chain's map.

    weight, gradient (k, d), N = `depth`. A power of zero is the identity, on the null space too. With one output
    it is ``|w|^(2-2/N) (G + (N-1) (G . w) w / |w|^2)``; with one input too, ``N |w|^(2-2/N) G``. The norm of W is
    not scaled away: at W = 0 and N > 1 nothing moves. Arora et al., arXiv 1802.06509, theorem 1.
    """
    if depth == 1:
        return gradient
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    powers = [values ** (2 * j / depth) for j in range(depth)]
    # j = 1 and j = N have a factor to the power of zero: they act on the whole space on that side.
    found: Tensor = left @ (powers[-1][:, None] * (left.T @ gradient)) + (gradient @ right.T * powers[-1]) @ right
    if depth > 2:
        scale = torch.stack([powers[depth - j][:, None] * powers[j - 1] for j in range(2, depth)]).sum(0)
        found = found + left @ (scale * (left.T @ gradient @ right.T)) @ right
    return found


def gain(weight: Tensor, gradient: Tensor, depth: int) -> float:
    """``<G, P_W(G)> / <G, G>``: how much faster than one layer's the loss falls at first, at one learning rate.

    A chain with its learning rate divided by it lowers the loss by the same amount to first order.
    """
    return float((gradient * preconditioned(weight, gradient, depth)).sum() / (gradient * gradient).sum())
