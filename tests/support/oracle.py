"""The comparison with the oracle: matrices by impulses, entry by entry, border ring and interior apart."""

from __future__ import annotations

import torch
from torch import Tensor

from convfold.algebra import Op, apply, dense, kernel, magnitude

__all__ = ["CEILING", "DOUBLE", "assert_kernel", "assert_same", "ring", "worst"]

# Far above the rounding of these small cases (about 1e-15), far below any wrong entry.
CEILING = 1e-12
# The dtype for expressions that hold no tensor.
DOUBLE = torch.empty(0, dtype=torch.float64)


def ring(size: tuple[int, ...]) -> Tensor:
    """Which positions of a map lie on its border."""
    mask = torch.ones(size, dtype=torch.bool)
    mask[tuple(slice(1, -1) for _ in size)] = False
    return mask if size else ~mask


def worst(op: Op, other: Op, size: tuple[int, ...]) -> tuple[float, float]:
    """The largest error of an entry over its own sum of absolute terms: (on the border ring, in the interior)."""
    with torch.no_grad():
        out = apply(op, torch.zeros(1, op.in_channels, *size, dtype=torch.float64)).shape[2:]
    (a, c), (b, d) = dense(op, size), dense(other, size)
    assert a.shape == b.shape, f"the matrices differ in shape: {tuple(a.shape)} and {tuple(b.shape)}"
    scale, shift = dense(magnitude(op), size)
    scale = scale + shift.unsqueeze(1)
    # Where no term contributes at all, both must be exactly zero.
    errors = torch.cat([(a - b).abs() / scale, ((c - d).abs() / shift).unsqueeze(1)], dim=1)
    exact = torch.cat([(a == b), (c == d).unsqueeze(1)], dim=1)
    errors = torch.where(exact, torch.zeros_like(errors), errors).amax(1).reshape(-1, out.numel()).amax(0)
    mask = ring(tuple(out)).reshape(-1)
    border, inner = errors[mask], errors[~mask]
    return (border.max().item() if border.numel() else 0.0, inner.max().item() if inner.numel() else 0.0)


def assert_same(op: Op, other: Op, *sizes: tuple[int, ...]) -> None:
    """`op` and `other` are the same affine map on inputs of each of these sizes."""
    assert sizes
    for size in sizes:
        border, inner = worst(op, other, size)
        assert inner <= CEILING, f"interior differs by {inner:.2e} at size {size}"
        assert border <= CEILING, f"border ring differs by {border:.2e} at size {size}"


def assert_kernel(op: Op, *sizes: tuple[int, ...]) -> Op:
    """`op` reduces to one operator, and that is the same map; returns the operator."""
    reduced = kernel(op, like=DOUBLE)
    assert_same(op, reduced, *sizes)
    return reduced
