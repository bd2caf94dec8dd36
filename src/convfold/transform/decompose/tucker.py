"""1x1, k x k between fewer channels, 1x1."""

from __future__ import annotations

import torch
from torch import Tensor

from convfold.transform.decompose.factors import Solution, gamma, norm
from convfold.transform.decompose.frame import Frame, Part, Rank, Shape, thinned
from convfold.transform.decompose.linear_algebra import Spectrum, defect, spectrum
from convfold.transform.decompose.method import Method, Solver

__all__ = ["Tucker", "TuckerSolver"]

SWEEPS = 10


def _by_rows(weight: Tensor) -> Tensor:
    """(g, n, m * taps)"""
    return weight.flatten(2)


def _by_columns(weight: Tensor) -> Tensor:
    """(g, m, n * taps)"""
    return weight.transpose(1, 2).flatten(2)


def _along_rows(factor: Tensor, weight: Tensor) -> Tensor:
    """``sum_o factor[g, a, o] W[g, o, ...]``"""
    return torch.einsum("gao,go...->ga...", factor, weight)


def _along_columns(factor: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("gbc,gnc...->gnb...", factor, weight)


class TuckerSolver(Solver):
    """``W = G x_rows U x_columns V`` with orthonormal U (n x r_out) and V (m x r_in).

    Started from the leading singular vectors of the two unfoldings (the higher-order singular value decomposition),
    for which ``||W - W'||^2 <= sum_{i>r_out} s_i(rows)^2 + sum_{j>r_in} s_j(columns)^2`` (De Lathauwer, De Moor and
    Vandewalle, SIAM J. Matrix Anal. Appl. 21 (2000) 1253, property 10). Higher-order orthogonal iteration never
    increases the error, so the bound stays (Kim et al., arXiv:1511.06530).
    """

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._rows: Spectrum | None = None
        self._columns: Spectrum | None = None

    @property
    def spectra(self) -> tuple[Spectrum, Spectrum]:
        if self._rows is None or self._columns is None:
            self._rows, self._columns = spectrum(_by_rows(self.weight)), spectrum(_by_columns(self.weight))
        return self._rows, self._columns

    def tail(self, frame: Frame) -> float:
        assert isinstance(frame.rank, tuple)
        rows, columns = self.spectra
        return float((rows.tail(frame.rank[0]) ** 2 + columns.tail(frame.rank[1]) ** 2) ** 0.5)

    def solve(self, frame: Frame) -> Solution:
        assert isinstance(frame.rank, tuple)
        rows, columns = self.spectra
        out, into = frame.rank
        bases = rows.left[..., :out], columns.left[..., :into]
        bases = self._iterated(*bases)
        core = _along_columns(bases[1].mT, _along_rows(bases[0].mT, self.weight))
        # Bases that are not quite orthonormal project not quite: by their defect, times what is projected.
        loose = (
            sum(defect(basis) for basis in bases)
            + 2
            * gamma(self.weight.shape[1] + self.weight.shape[2] + 2)
            * (self.weight.shape[1] * self.weight.shape[2]) ** 0.5
        )
        rounding = rows.residual + columns.residual + 2 * loose * norm(self.weight)
        return Solution(frame, self._weights(frame, core, *bases), self.tail(frame), rounding)

    def _iterated(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Alternately the best basis given the other, while that brings more of the kernel into the core."""
        held = norm(_along_columns(right.mT, _along_rows(left.mT, self.weight)))
        for _ in range(SWEEPS):
            new_left = _leading(_by_rows(_along_columns(right.mT, self.weight)), left.shape[-1])
            new_right = _leading(_by_columns(_along_rows(new_left.mT, self.weight)), right.shape[-1])
            now = norm(_along_columns(new_right.mT, _along_rows(new_left.mT, self.weight)))
            if now <= held * (1 + 1e-9):  # an effort, not a tolerance: what is lost by stopping is below it
                break
            left, right, held = new_left, new_right, now
        return left, right

    def _weights(self, frame: Frame, core: Tensor, left: Tensor, right: Tensor) -> tuple[Tensor, ...]:
        """In the frame's own parts: a basis of full rank that has no part of its own goes into the core."""
        kernel = tuple(self.weight.shape[3:])
        shapes = [part.shape(kernel) for part in frame.parts]
        first: tuple[Tensor, ...] = ()
        last: tuple[Tensor, ...] = ()
        if not frame.parts[0].axes:
            first = (right.mT.reshape(shapes[0]),)
        else:
            core = _along_columns(right, core)
        if not frame.parts[-1].axes:
            last = (left.reshape(shapes[-1]),)
        else:
            core = _along_rows(left, core)
        return (*first, core.reshape(shapes[len(first)]), *last)


def _leading(matrix: Tensor, count: int) -> Tensor:
    """The leading left singular vectors; as many as asked for, where the matrix is narrower too."""
    left: Tensor = torch.linalg.svd(matrix, full_matrices=matrix.shape[-1] < count)[0]
    return left[..., :count]


class Tucker(Method):
    """1x1 to r_in channels, k x k to r_out channels, 1x1; ranks are pairs (r_out, r_in).

    Where r_in is all the input channels, or r_out all the output channels, that 1x1 may be left out.
    """

    name = "tucker"

    def unsuited(self, shape: Shape) -> str:
        if not shape.long_axes:
            return "its kernel has one tap: svd is for it"
        return "it is depthwise: it has no channels to reduce" if shape.rows == shape.columns == 1 else ""

    def full(self, shape: Shape) -> tuple[int, int]:
        return min(shape.rows, shape.columns * shape.taps), min(shape.columns, shape.rows * shape.taps)

    def ranks(self, shape: Shape) -> list[Rank]:
        out, into = self.full(shape)
        return [(a, b) for a in thinned(out) for b in thinned(into)]

    def at(self, shape: Shape, rank: Rank) -> list[Frame]:
        out, into = (min(r, most) for r, most in zip(_pair(rank), self.full(shape), strict=True))
        axes, groups, size = tuple(range(len(shape.kernel))), shape.groups, "x".join(map(str, shape.kernel))
        first = Part(shape.inputs, groups * into, groups, ())
        last = Part(groups * out, shape.outputs, groups, ())
        frames = [
            Frame((out, into), (first, Part(groups * into, groups * out, groups, axes), last), f"1x1, {size}, 1x1")
        ]
        if into == shape.columns:
            core = Part(shape.inputs, groups * out, groups, axes)
            frames.append(Frame((out, into), (core, last), f"{size}, 1x1"))
        if out == shape.rows:
            core = Part(groups * into, shape.outputs, groups, axes)
            frames.append(Frame((out, into), (first, core), f"1x1, {size}"))
        return frames

    def exact(self, shape: Shape, frame: Frame) -> bool:
        return frame.rank == self.full(shape)

    def solver(self, weight: Tensor) -> Solver:
        return TuckerSolver(weight)


def _pair(rank: Rank) -> tuple[int, int]:
    return rank if isinstance(rank, tuple) else (rank, rank)
