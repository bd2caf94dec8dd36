"""One executed operator as the rules of receptive fields see it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from convfold.cost.counting.leaves import tensors
from convfold.cost.receptive.steps import Step

__all__ = ["Call", "Reads"]

# What an output reads: operands, each with what becomes of its reach.
Reads = list[tuple[Tensor, Step]]


@dataclass(frozen=True)
class Call:
    """One executed operator: its name, its arguments by name, and which of its outputs is asked for."""

    name: str
    named: dict[str, Any]
    out: Tensor
    place: int = 0

    def __getitem__(self, name: str) -> Any:
        return self.named[name]

    @property
    def x(self) -> Tensor:
        """The first operand."""
        return next(value for value in self.named.values() if isinstance(value, Tensor))

    @property
    def operands(self) -> Iterable[Tensor]:
        """Every tensor given."""
        return tensors(self.named)
