"""Two convolutions in a row: one has the window along some axes, the other along the rest.

With all axes first (or last) this is the decomposition across channels, with some of them the spatial one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor

from convfold.transform.decompose.factors import Solution
from convfold.transform.decompose.frame import Frame, Part, Rank, Shape
from convfold.transform.decompose.linear_algebra import Spectrum, spectrum
from convfold.transform.decompose.method import Method, Solver

__all__ = ["Split", "SplitSolver", "matricise"]


def matricise(weight: Tensor, first: Sequence[int]) -> Tensor:
    """The kernel (g, n, m, *k) as matrices (g, m * k_first, n * k_rest): its unfolding between the two convolutions.

    ``W[o, c, x, y] = sum_r B[o, r, y] A[r, c, x]`` with x along the axes `first` and y along the others is a product
    of matrices of this shape, so the least error at r channels between is ``sqrt(sum_{i>r} s_i^2)``.
    """
    axes = range(weight.dim() - 3)
    early = [3 + axis for axis in axes if axis in first]
    late = [3 + axis for axis in axes if axis not in first]
    moved = weight.permute(0, 2, *early, 1, *late)
    return moved.reshape(weight.shape[0], weight.shape[2] * prod(weight.shape[axis] for axis in early), -1)


class SplitSolver(Solver):
    """Singular value decompositions, one per choice of axes."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._spectra: dict[tuple[int, ...], Spectrum] = {}

    def spectrum(self, first: tuple[int, ...]) -> Spectrum:
        if first not in self._spectra:
            self._spectra[first] = spectrum(matricise(self.weight, first))
        return self._spectra[first]

    def tail(self, frame: Frame) -> float:
        assert isinstance(frame.rank, int)
        return self.spectrum(frame.parts[0].axes).tail(frame.rank)

    def solve(self, frame: Frame) -> Solution:
        assert isinstance(frame.rank, int)
        found = self.spectrum(frame.parts[0].axes)
        left, right = found.halves(frame.rank)  # (g, m * k_first, r) and (g, r, n * k_rest)
        groups, rows = self.weight.shape[:2]
        kernel = tuple(self.weight.shape[3:])
        first, last = (part.shape(kernel) for part in frame.parts)
        late = right.reshape(groups, frame.rank, rows, -1).transpose(1, 2)
        return Solution(frame, (left.mT.reshape(first), late.reshape(last)), found.tail(frame.rank), found.residual)


class Split(Method):
    """Frames of two parts; a method says which axes may come first."""

    def firsts(self, shape: Shape) -> list[tuple[int, ...]]:
        """The choices of axes for the first convolution."""
        raise NotImplementedError

    def form(self, shape: Shape, first: tuple[int, ...]) -> str:
        """Such a row in words."""
        sizes = (
            "x".join(str(k if (i in first) == (n == 0) else 1) for i, k in enumerate(shape.kernel)) for n in (0, 1)
        )
        return ", then ".join(size or "Linear" for size in sizes)

    def limit(self, shape: Shape, first: tuple[int, ...]) -> int:
        """The rank at which this choice of axes is exact."""
        early = prod(shape.kernel[axis] for axis in first)
        return min(shape.columns * early, shape.rows * (shape.taps // early))

    def full(self, shape: Shape) -> int:
        return max(self.limit(shape, first) for first in self.firsts(shape))

    def ranks(self, shape: Shape) -> list[Rank]:
        return list(range(1, self.full(shape) + 1))

    def at(self, shape: Shape, rank: Rank) -> list[Frame]:
        assert isinstance(rank, int)
        axes, between = range(len(shape.kernel)), shape.groups * rank
        return [
            Frame(
                rank,
                (
                    Part(shape.inputs, between, shape.groups, first),
                    Part(between, shape.outputs, shape.groups, tuple(a for a in axes if a not in first)),
                ),
                self.form(shape, first),
            )
            for first in self.firsts(shape)
            if rank <= self.limit(shape, first)
        ]

    def exact(self, shape: Shape, frame: Frame) -> bool:
        return isinstance(frame.rank, int) and frame.rank >= self.limit(shape, frame.parts[0].axes)

    def solver(self, weight: Tensor) -> Solver:
        return SplitSolver(weight)
