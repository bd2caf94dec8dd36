"""Layers with a closed form of their multiply-accumulates, to try cost counters on.

    MACs = sum of products of the factors that each case names

A convolution has ``batch * positions * out_channels * in_channels_per_group * taps``, a transposed one the
positions of its input; zero padding is counted; attention is counted as if not causal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import Tensor, nn

__all__ = ["Calls", "Case", "Law", "law"]


@dataclass(frozen=True)
class Law:
    """A sum of products of named factors."""

    terms: tuple[tuple[tuple[str, int], ...], ...] = ()

    @property
    def value(self) -> int:
        """The number that it comes to."""
        return sum(prod(size for _, size in term) for term in self.terms)

    def __add__(self, other: Law) -> Law:
        return Law(self.terms + other.terms)

    def __rmul__(self, times: int) -> Law:
        return Law(self.terms * times)

    def __str__(self) -> str:
        products = [" * ".join(f"{size} {name}" for name, size in term) for term in self.terms]
        return " + ".join(products) or "0"


def law(**factors: int) -> Law:
    """The product of the factors; with none, nothing.

    >>> str(law(rows=2, columns=3) + law(bias=4))
    '2 rows * 3 columns + 4 bias'
    """
    return Law((tuple(factors.items()),)) if factors else Law()


@dataclass(frozen=True)
class Case:
    """One layer: how to build it, the inputs of its call, and the law of its multiply-accumulates.

    `real`: it reads values, so that no counter can do without running it.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    macs: Law
    real: bool = False


class Calls(nn.Module):
    """Runs a function on its layers and its inputs."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)

    def forward(self, *inputs: Tensor) -> Any:
        """``function(*layers, *inputs)``"""
        return self.function(*self.layers, *inputs)
