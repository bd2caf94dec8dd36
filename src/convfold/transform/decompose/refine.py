"""Alternating least squares under a metric: factors whose product is close where the data is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from convfold.transform.decompose.factors import compose
from convfold.transform.decompose.frame import Part

__all__ = ["principal", "refine"]

SWEEPS, STEPS = 8, 10
_STILL = 1e-4  # relative progress of one sweep below which it stops


def principal(target: Tensor, metric: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best product B A of that rank: ``min tr((B A - T) C (B A - T)^T)``, with what is left out.

    B holds the leading eigenvectors of the outputs' second moment ``T C T^T`` and ``A = B^T T`` (Zhang et al.,
    arXiv:1505.06798, section 3.1); the minimum is the sum of the other eigenvalues. Returns B (g, n, r), A (g, r, i)
    and all eigenvalues (g, n), falling.
    """
    values, vectors = torch.linalg.eigh(target @ metric @ target.mT)
    basis = vectors.flip(-1)[..., :rank]
    return basis, basis.mT @ target, values.flip(-1).clamp_min(0)


def refine(
    parts: Sequence[Part], start: Sequence[Tensor], groups: int, target: Tensor, metric: Tensor
) -> tuple[Tensor, ...]:
    """Factors with ``tr((W' - T) C (W' - T)^T)`` no larger than the start's, W' their product as (g, n, m*taps).

    The product is linear in each factor, so each in turn is a least-squares problem: solved in closed form for a last
    part of one tap, by conjugate gradients on the normal equations for the others. Neither ever increases it.
    """

    def product(factors: Sequence[Tensor]) -> Tensor:
        return compose(parts, factors, groups).flatten(2)

    def loss(factors: Sequence[Tensor]) -> float:
        gap = product(factors) - target
        return float(((gap @ metric) * gap).sum())

    factors = [factor.clone() for factor in start]
    best = loss(factors)
    for _ in range(SWEEPS):
        tried = list(factors)
        for index in reversed(range(len(parts))):
            if index == len(parts) - 1 and not parts[index].axes and len(parts) > 1:
                tried[index] = _last(parts, tried, groups, target, metric)
            else:
                tried[index] = _conjugate(product, tried, index, target, metric)
        now = loss(tried)
        if not now < best:
            break
        factors, before, best = tried, best, now
        if before - now <= _STILL * before:
            break
    return tuple(factors)


def _last(parts: Sequence[Part], factors: Sequence[Tensor], groups: int, target: Tensor, metric: Tensor) -> Tensor:
    """``B = T C M^T (M C M^T)^+`` with M what the parts before compute: every output is a sum of their channels."""
    if len(parts) > 2:
        inner = compose(parts[:-1], factors[:-1], groups).flatten(2)
    else:
        inner = _spelled(parts[0], factors[0], groups)
    moved = inner @ metric
    gram = moved @ inner.mT
    solution = torch.linalg.pinv(gram, hermitian=True) @ (moved @ target.mT)
    last: Tensor = solution.mT.reshape(factors[-1].shape)
    return last


def _spelled(part: Part, weight: Tensor, groups: int) -> Tensor:
    """One part's kernel with the zeros between its blocks written out: (g, channels, m*taps)."""
    blocks, own = part.groups // groups, part.outputs // part.groups
    reads = part.inputs // part.groups
    split = weight.reshape(groups, blocks, own, reads, -1)
    eye = torch.eye(blocks, dtype=weight.dtype, device=weight.device)
    return torch.einsum("gqoit,qp->gqopit", split, eye).reshape(groups, blocks * own, -1)


def _conjugate(
    product: Callable[[Sequence[Tensor]], Tensor],
    factors: Sequence[Tensor],
    index: int,
    target: Tensor,
    metric: Tensor,
) -> Tensor:
    """Conjugate gradients on ``min over f of ||(T - L f) C^(1/2)||^2``, L the product as a function of one factor."""
    variable = factors[index].detach().requires_grad_()
    with torch.enable_grad():
        whole = product([variable if i == index else factor for i, factor in enumerate(factors)])

    def adjoint(residual: Tensor) -> Tensor:
        gradients: tuple[Tensor, ...] = torch.autograd.grad(whole, variable, residual, retain_graph=True)
        return gradients[0]

    def linear(direction: Tensor) -> Tensor:
        return product([direction if i == index else factor for i, factor in enumerate(factors)])

    solution = factors[index].clone()
    residual = adjoint((target - whole.detach()) @ metric)
    direction, size = residual, float(residual.square().sum())
    first = size
    for _ in range(STEPS):
        if size <= torch.finfo(torch.float64).eps * first:
            break
        moved = linear(direction)
        weighted = moved @ metric
        curvature = float((moved * weighted).sum())
        if curvature <= 0:
            break
        step = size / curvature
        solution = solution + step * direction
        residual = residual - step * adjoint(weighted)
        size, before = float(residual.square().sum()), size
        direction = residual + (size / before) * direction
    return solution
