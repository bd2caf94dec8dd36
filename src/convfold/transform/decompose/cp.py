"""1x1, then one depthwise convolution per axis, then 1x1: the kernel as a sum of products of vectors."""

from __future__ import annotations

import math
from itertools import permutations
from math import prod

import torch
from torch import Tensor

from convfold.transform.decompose.factors import Solution, compose, norm
from convfold.transform.decompose.frame import Frame, Part, Rank, Shape
from convfold.transform.decompose.method import Method, Solver

__all__ = ["CP", "CPSolver", "als"]

STARTS, TRIAL, SWEEPS = 3, 25, 300
_STEP = 1.5
_STILL = 1e-7  # relative progress of one sweep below which it stops


def als(tensor: Tensor, start: list[Tensor], sweeps: int) -> tuple[list[Tensor], float]:
    """Alternating least squares on ``T[g, i, j, ...] = sum_r A[g, i, r] B[g, j, r] ...``; factors and squared error.

    Each factor in turn is the least-squares solution given the others, so the error never grows; columns are scaled to
    one length after each sweep, against the cancelling of large terms (Lebedev et al., arXiv:1412.6553).
    """
    factors, total = list(start), float(tensor.square().sum())
    error = float("inf")
    for _ in range(sweeps):
        for mode in range(len(factors)):
            others = [factor for index, factor in enumerate(factors) if index != mode]
            gram = torch.stack([factor.mT @ factor for factor in others]).prod(0)
            product = _contracted(tensor, factors, mode)
            factors[mode] = product @ torch.linalg.pinv(gram, hermitian=True)
        inner = float((product * factors[-1]).sum())
        square = float((gram * (factors[-1].mT @ factors[-1])).sum())
        now = max(total - 2 * inner + square, 0.0)
        factors = _levelled(factors)
        if error - now <= _STILL * total:
            return factors, now
        error = now
    return factors, error


def _contracted(tensor: Tensor, factors: list[Tensor], mode: int) -> Tensor:
    """``sum over the other modes of T * their factors``: (g, size of the mode, r)."""
    letters = "ijklm"[: len(factors)]
    others = [index for index in range(len(factors)) if index != mode]
    terms = ",".join(f"g{letters[index]}r" for index in others)
    return torch.einsum(f"g{letters},{terms}->g{letters[mode]}r", tensor, *(factors[index] for index in others))


def _levelled(factors: list[Tensor]) -> list[Tensor]:
    lengths = [torch.linalg.vector_norm(factor, dim=1, keepdim=True) for factor in factors]
    mean = torch.stack(lengths).log().mean(0).exp()  # the geometric mean; zero where one length is
    return [
        torch.where(length > 0, factor * (mean / length), factor)
        for factor, length in zip(factors, lengths, strict=True)
    ]


class CPSolver(Solver):
    """The best of several starts: leading singular vectors of every unfolding, and random ones from a fixed seed."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.long = [axis for axis, size in enumerate(weight.shape[3:]) if size > 1]
        sizes = [weight.shape[3 + axis] for axis in self.long]
        self.tensor = weight.reshape(weight.shape[0], weight.shape[1], weight.shape[2], *sizes)
        self._found: dict[int, list[Tensor]] = {}
        self._trials: dict[int, list[tuple[list[Tensor], float]]] = {}

    def factors(self, rank: int) -> list[Tensor]:
        """(g, rows, r), (g, columns, r), and (g, k, r) for each axis of more than one tap."""
        if rank not in self._found:
            best = min(self._tried(rank, STARTS), key=lambda trial: trial[1])[0]
            self._found[rank] = als(self.tensor, best, SWEEPS)[0]
        return self._found[rank]

    def _tried(self, rank: int, count: int) -> list[tuple[list[Tensor], float]]:
        """The first starts of a rank after some sweeps, with their squared errors."""
        trials = self._trials.setdefault(rank, [])
        for index in range(len(trials), count):
            generator = torch.Generator().manual_seed(rank * STARTS + index)
            trials.append(als(self.tensor, self._start(rank, generator, index == 0), TRIAL))
        return trials

    def _start(self, rank: int, generator: torch.Generator, leading: bool) -> list[Tensor]:
        factors = []
        for mode in range(1, self.tensor.dim()):
            shape = (self.tensor.shape[0], self.tensor.shape[mode], rank)
            factor = torch.randn(shape, generator=generator, dtype=torch.float64)
            if leading:
                unfolded = self.tensor.movedim(mode, 1).flatten(2)
                vectors = torch.linalg.svd(unfolded, full_matrices=False)[0][..., :rank]
                factor[..., : vectors.shape[-1]] = vectors
            factors.append(factor)
        return factors

    def tail(self, frame: Frame) -> float:
        """The residual of one start after some sweeps: what is made in earnest goes on from there, or from a better."""
        assert isinstance(frame.rank, int)
        return math.sqrt(self._tried(frame.rank, 1)[0][1])

    def solve(self, frame: Frame) -> Solution:
        assert isinstance(frame.rank, int)
        rows, columns, *along = self.factors(frame.rank)
        kernel = tuple(self.weight.shape[3:])
        shapes = [part.shape(kernel) for part in frame.parts]
        middle = []
        for part, shape in zip(frame.parts[1:-1], shapes[1:-1], strict=True):
            axis = next(a for a in part.axes if a in self.long)
            middle.append(along[self.long.index(axis)].mT.reshape(shape))
        weights = (columns.mT.reshape(shapes[0]), *middle, rows.reshape(shapes[-1]))
        residual = norm(self.weight - compose(frame.parts, weights, self.weight.shape[0]))
        return Solution(frame, weights, residual)


class CP(Method):
    """``W[o, c, y, x] = sum_r A[o, r] H[x, r] V[y, r] B[c, r]`` (canonical polyadic).

    Lebedev et al., Speeding-up convolutional neural networks using fine-tuned CP-decomposition, arXiv:1412.6553. No
    formula gives the error at a rank, and the best factors need not exist: the bound is the residual, measured.
    """

    name = "cp"
    a_priori = False

    def unsuited(self, shape: Shape) -> str:
        if not shape.long_axes:
            return "its kernel has one tap: svd is for it"
        return ""

    def full(self, shape: Shape) -> int:
        """No tensor of these sizes has a larger rank: the product of all but the largest."""
        sizes = (shape.rows, shape.columns, *(shape.kernel[axis] for axis in shape.long_axes))
        return prod(sizes) // max(sizes)

    def ranks(self, shape: Shape) -> list[Rank]:
        ranks, full = [1], self.full(shape)
        while ranks[-1] < full:
            ranks.append(min(full, max(ranks[-1] + 1, int(ranks[-1] * _STEP))))
        return list(ranks)

    def at(self, shape: Shape, rank: Rank) -> list[Frame]:
        assert isinstance(rank, int)
        between, short = shape.groups * rank, tuple(a for a in range(len(shape.kernel)) if shape.kernel[a] == 1)
        first = Part(shape.inputs, between, shape.groups, ())
        last = Part(between, shape.outputs, shape.groups, ())
        frames = []
        for order in permutations(shape.long_axes):
            axes = [tuple(sorted((axis, *short))) if not n else (axis,) for n, axis in enumerate(order)]
            sizes = ("x".join(str(k if i == axis else 1) for i, k in enumerate(shape.kernel)) for axis in order)
            form = f"1x1, {', '.join(f'{size} depthwise' for size in sizes)}, 1x1"
            frames.append(Frame(rank, (first, *(Part(between, between, between, own) for own in axes), last), form))
        return frames

    def solver(self, weight: Tensor) -> Solver:
        return CPSolver(weight)
