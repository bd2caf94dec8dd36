"""Linear regions: a rigorous bound, from the sum of the absolute terms and the length of the longest path."""

from __future__ import annotations

import torch
from torch import nn

from convfold.algebra import Op, apply, frozen, magnitude, tensors
from convfold.algebra.readings.length import path_length
from convfold.verify.certificate import Certificate, Probe, compare, gamma

__all__ = ["certify"]


def certify(
    before: Op, after: Op, sizes: tuple[tuple[int, ...], ...], original: nn.Module | None = None
) -> Certificate:
    """Compare two expressions in float64 on random inputs of these spatial sizes.

    ``|before(x) - after(x)| <= gamma_L * S`` with S the sum of the absolute terms of ``before``, evaluated as
    ``|before|(|x|)``, and ``L = 2*L_before + L_after`` roundings: those of the evaluation before, those of
    composing the kernels, those of the evaluation after (Higham, Accuracy and Stability of Numerical
    Algorithms, section 3.1). The error is max |difference| / max S. With `original`, the module whose equation
    `before` is, what that module itself computes takes the place of ``before(x)``.
    """
    before, after = frozen(before, torch.float64), frozen(after, torch.float64)
    length = 2 * path_length(before) + path_length(after)
    bound = gamma(length)
    generator = torch.Generator().manual_seed(0)
    absolute = magnitude(before)
    device = next((tensor.device for tensor in tensors(before)), torch.device("cpu"))
    probes, inputs = [], []
    for size in sizes:
        x = torch.randn(2, before.in_channels, *size, generator=generator, dtype=torch.float64)
        x = x.to(device)
        with torch.no_grad():
            scale = float(apply(absolute, x.abs()).abs().max())
            truth = apply(before, x) if original is None else original(x)
            error, border, interior = compare(truth, apply(after, x), scale)
        probes.append(Probe("random", (tuple(x.shape),), error, bound, border, interior))
        inputs.append(x)
    return Certificate.of(probes, inputs, "the sum of the absolute terms", "float64")
