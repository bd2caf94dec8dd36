"""What a method of decomposition is: frames from shapes, then factors from numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from convfold.transform.decompose.factors import Solution
from convfold.transform.decompose.frame import Frame, Rank, Shape

__all__ = ["Method", "Solver"]


class Solver(ABC):
    """A method at work on one kernel (groups, rows, columns, *k) in float64; what can be shared by ranks is kept."""

    @abstractmethod
    def tail(self, frame: Frame) -> float:
        """An absolute Frobenius error that `solve(frame)` does not exceed, rounding aside."""

    @abstractmethod
    def solve(self, frame: Frame) -> Solution:
        """The factors."""


class Method(ABC):
    """A family of frames and the solver of their factors."""

    name: str
    a_priori: bool = True  # whether the error is bounded before factors are computed

    @abstractmethod
    def unsuited(self, shape: Shape) -> str:
        """Why a kernel of this shape cannot be decomposed so, or an empty string."""

    @abstractmethod
    def full(self, shape: Shape) -> Rank:
        """The largest rank that adds anything: there every frame of this rank is exact (cp: some kernel needs it)."""

    @abstractmethod
    def at(self, shape: Shape, rank: Rank) -> list[Frame]:
        """The frames of that rank."""

    @abstractmethod
    def ranks(self, shape: Shape) -> list[Rank]:
        """The ranks to choose from."""

    @abstractmethod
    def solver(self, weight: Tensor) -> Solver:
        """The solver for one kernel."""

    def exact(self, shape: Shape, frame: Frame) -> bool:
        """Whether a frame holds every kernel of this shape."""
        return False

    def frames(self, shape: Shape) -> list[Frame]:
        """Every frame on offer."""
        return [frame for rank in self.ranks(shape) for frame in self.at(shape, rank)]
