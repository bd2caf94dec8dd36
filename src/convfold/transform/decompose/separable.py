"""Depthwise with a multiplier, then pointwise: the rank-r generalisation of a depthwise separable convolution."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor, nn

from convfold.errors import InvalidType
from convfold.transform.decompose.factors import UNIT, Solution
from convfold.transform.decompose.frame import Frame, Part, Rank, Shape
from convfold.transform.decompose.linear_algebra import Spectrum, spectrum
from convfold.transform.decompose.method import Method, Solver

__all__ = ["Separable", "is_separable", "separability", "separable_spectrum"]


def separable_spectrum(weight: Tensor) -> Spectrum:
    """The decompositions of all input channels: of the matrices (rows x taps) ``M_c = W[:, c, :]``.

    ``W[o, c, x] = sum_r P[o, c, r] D[c, r, x]`` with D the depthwise kernels (multiplier r) and P the pointwise ones.
    The channels do not meet, so the least error at multiplier r is ``sqrt(sum_c sum_{i>r} s_{c,i}^2)``, and is zero at
    r = min(taps, rows) (Guo et al., Network Decoupling, arXiv:1808.05517). `weight` is (groups, rows, columns, *k);
    the stack is (groups, columns).
    """
    return spectrum(weight.flatten(3).transpose(1, 2))


class _Solver(Solver):
    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    @cached_property
    def spectrum(self) -> Spectrum:
        return separable_spectrum(self.weight)

    def tail(self, frame: Frame) -> float:
        assert isinstance(frame.rank, int)
        return self.spectrum.tail(frame.rank)

    def solve(self, frame: Frame) -> Solution:
        assert isinstance(frame.rank, int)
        mixing, depthwise = self.spectrum.halves(frame.rank)  # (g, m, n, r) and (g, m, r, taps)
        kernel = tuple(self.weight.shape[3:])
        first, last = (part.shape(kernel) for part in frame.parts)
        weights = (depthwise.reshape(first), mixing.transpose(1, 2).reshape(last))
        return Solution(frame, weights, self.tail(frame), self.spectrum.residual)


class Separable(Method):
    """``k x k`` depthwise with multiplier r, then 1x1."""

    name = "separable"

    def unsuited(self, shape: Shape) -> str:
        if not shape.kernel:
            return "a Linear layer has no axis to separate; svd is for it"
        return "" if shape.long_axes else "its kernel has one tap: it is pointwise already"

    def full(self, shape: Shape) -> int:
        return min(shape.taps, shape.rows)

    def ranks(self, shape: Shape) -> list[Rank]:
        return list(range(1, self.full(shape) + 1))

    def at(self, shape: Shape, rank: Rank) -> list[Frame]:
        assert isinstance(rank, int)
        between = shape.inputs * rank
        axes = tuple(range(len(shape.kernel)))
        depthwise = Part(shape.inputs, between, shape.inputs, axes)
        return [Frame(rank, (depthwise, Part(between, shape.outputs, shape.groups, ())), "depthwise, then pointwise")]

    def exact(self, shape: Shape, frame: Frame) -> bool:
        return isinstance(frame.rank, int) and frame.rank >= self.full(shape)

    def solver(self, weight: Tensor) -> Solver:
        return _Solver(weight)


def separability(conv: nn.Module) -> Tensor:
    """How far each input channel is from depthwise separable: (C_in,) in float64, 0 for one that is.

    ``sqrt(sum_{i>1} s_{c,i}^2) / ||W_c||_F`` with s_c the singular values of ``W_c``, the kernels that read channel c
    as a matrix (C_out/g x taps). A kernel is exactly depthwise followed by pointwise iff, for each input channel, its
    kernels are multiples of one: rank 1. Raises InvalidType for what is no convolution.
    """
    weight = getattr(conv, "weight", None)
    if not isinstance(conv, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) or not isinstance(weight, Tensor):
        raise InvalidType(
            "separability is a question about convolutions", got=type(conv).__name__, expected="nn.Conv1d, 2d or 3d"
        )
    kernel = weight.detach().to("cpu", torch.float64)
    kernel = kernel.reshape(conv.groups, kernel.shape[0] // conv.groups, *kernel.shape[1:])
    values = separable_spectrum(kernel).values
    whole = torch.linalg.vector_norm(values, dim=-1)
    rest = torch.linalg.vector_norm(values[..., 1:], dim=-1)
    return torch.where(whole > 0, rest / whole, torch.zeros_like(whole)).flatten()


def is_separable(conv: nn.Module, tolerance: float | None = None) -> bool:
    """Whether a convolution is exactly a depthwise one followed by a pointwise one.

    Without a `tolerance` on each channel's residual, what rounding leaves of an exact product: an entry ``p * d``,
    each factor rounded to the kernel's dtype and the product once more, is off by at most ``(1 + u)^3 - 1`` of itself,
    and so is a channel's norm; the decomposition in float64 adds ``taps * rows`` roundings of its own.
    """
    residual = separability(conv)
    if tolerance is None:
        weight: Tensor = conv.weight  # type: ignore[assignment]
        unit = torch.finfo(weight.dtype).eps / 2
        tolerance = (1 + unit) ** 3 - 1 + UNIT * weight[:, 0].numel()
    return bool((residual <= tolerance).all())
