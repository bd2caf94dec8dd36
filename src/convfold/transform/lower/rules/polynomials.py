"""One-dimensional kernels as polynomials, ``u(z) = sum_j u_j z^j``: one kernel after another multiplies them."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

__all__ = ["convolved", "pieces"]


def convolved(a: Tensor, b: Tensor) -> Tensor:
    """The product of two polynomials: ``c_j = sum_i a_i b_{j-i}``."""
    out = a.new_zeros(len(a) + len(b) - 1)
    for i, factor in enumerate(a):
        out[i : i + len(b)] += factor * b
    return out


def _quadratics(kernel: Tensor) -> list[Tensor]:
    """Real polynomials of degree two at most whose product is the kernel; every real polynomial has them.

    Roots are the eigenvalues of the companion matrix, which are those of a polynomial within rounding. Each factor's
    largest coefficient has the same absolute value, so that none loses digits.
    """
    there = torch.nonzero(kernel).flatten()
    if not len(there):
        return [kernel.new_zeros(3)]
    low, high = int(there[0]), int(there[-1])
    core = kernel[low : high + 1]
    companion = torch.diag(kernel.new_ones(max(high - low - 1, 0)), -1) if high > low else kernel.new_zeros(0, 0)
    if high > low:
        companion[:, -1] = -core[:-1] / core[-1]
    roots = torch.linalg.eigvals(companion) if high > low else kernel.new_zeros(0, dtype=torch.complex128)
    complex_ones = [r for r in roots.tolist() if r.imag > 0]
    real = sorted([r.real for r in roots.tolist() if r.imag == 0] + [0.0] * low)
    found = [[abs(r) ** 2, -2 * r.real, 1.0] for r in complex_ones]
    # The least with the greatest: of equal signs they would add up in the middle.
    while len(real) > 1:
        a, b = real.pop(0), real.pop()
        found.append([a * b, -(a + b), 1.0])
    found += [[-r, 1.0, 0.0] for r in real]
    sizes = [max(map(abs, factor)) for factor in found]
    gain = float(core[-1]) * prod(sizes)
    even = abs(gain) ** (1 / max(len(found), 1))
    factors = [kernel.new_tensor(f) * (even / size) for f, size in zip(found, sizes, strict=True)]
    if not factors:
        return [kernel.new_tensor([gain, 0.0, 0.0])]
    factors[0] = factors[0] if gain > 0 else -factors[0]
    return factors


def pieces(kernel: Tensor, taps: int, count: int) -> list[Tensor]:
    """`count` kernels of `taps` taps (odd) whose product is the kernel, followed by zeros."""
    if taps == 1:
        return [kernel, *(torch.ones_like(kernel) for _ in range(count - 1))]
    each = (taps - 1) // 2
    factors = _quadratics(kernel)
    one = kernel.new_zeros(taps)
    one[0] = 1
    found = []
    for start in range(0, count * each, each):
        piece = kernel.new_ones(1)
        for factor in factors[start : start + each]:
            piece = convolved(piece, factor)
        whole = one.clone() if len(piece) == 1 else torch.nn.functional.pad(piece, [0, taps - len(piece)])
        found.append(whole)
    return found
