"""What was decided about one model, whichever way it was looked at."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from convfold.errors import Refusal
from convfold.plan.regions import Region
from convfold.verify import Certificate

__all__ = ["Decision"]


class Decision(Protocol):
    """What was decided about one model, and how to carry it out."""

    model: nn.Module
    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    blocking: tuple[Refusal, ...]

    def emit(self) -> tuple[nn.Module, dict[tuple[str, ...], Certificate], list[Refusal]]: ...
    def shadow(self) -> nn.Module: ...
    def made(self) -> frozenset[str]: ...
    def keys(self) -> dict[str, str]: ...
    @property
    def limits(self) -> tuple[str, ...]: ...
