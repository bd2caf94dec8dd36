"""Sizes that follow the inputs: symbolic, and seen at two points, so that equality is told without algebra."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy
import torch

__all__ = ["Dims", "Pair", "Sizes", "expression", "static"]

Pair = tuple[int, int]
Dims = tuple[Any, ...]
_PRIMES = (7, 3, 5, 11, 13, 17, 19, 23)


def expression(size: Any) -> Any:
    """A sympy expression or a plain number of a torch size."""
    if isinstance(size, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        size = size.node.expr
    if isinstance(size, (sympy.Integer, sympy.Float)):
        return int(size) if size.is_Integer else float(size)
    return size


def static(size: Any) -> int | None:
    """The size where it is the same for all inputs."""
    return size if isinstance(size, int) else None


class Sizes:
    """Values of symbolic sizes: at the example inputs, and at multiples of them.

    The multiples are odd primes, so a size that a model needs divisible, or even, stays so; two sizes that agree
    at both points are taken for equal.
    """

    def __init__(self, example: dict[Any, int]) -> None:
        self.example = example
        self._points: tuple[dict[Any, sympy.Integer], ...] = (
            {symbol: sympy.Integer(value) for symbol, value in example.items()},
            {
                symbol: sympy.Integer(value * _PRIMES[index % len(_PRIMES)])
                for index, (symbol, value) in enumerate(example.items())
            },
        )
        self._known: dict[Any, Pair] = {}

    @property
    def elsewhere(self) -> dict[Any, sympy.Integer]:
        """The symbols at the second point."""
        return self._points[1]

    def pair(self, size: Any) -> Pair:
        """The size at both points."""
        if isinstance(size, int):
            return (size, size)
        if size not in self._known:
            one, two = (size.xreplace(point) for point in self._points)
            self._known[size] = (int(one), int(two))
        return self._known[size]

    def pairs(self, dims: Iterable[Any]) -> tuple[Pair, ...]:
        return tuple(self.pair(size) for size in dims)

    def concrete(self, dims: Iterable[Any]) -> tuple[int, ...]:
        """The shape at the example inputs."""
        return tuple(self.pair(size)[0] for size in dims)

    def equal(self, one: Dims, two: Dims) -> bool:
        """Whether two shapes are equal for all inputs."""
        return len(one) == len(two) and self.pairs(one) == self.pairs(two)
