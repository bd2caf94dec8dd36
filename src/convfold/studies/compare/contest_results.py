"""Two arms against each other on one task, and families of such pairs under one correction."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from convfold.studies.effects import Effect, cohens_dz
from convfold.studies.statistics import Paired, adjusted, compare

__all__ = ["Pair", "adjusted_family", "paired_family"]

Key = TypeVar("Key", bound=Hashable)
Values = Sequence[float]


@dataclass(frozen=True)
class Pair:
    """Two arms on one task: the paired difference in what is measured, and its size in deviations."""

    task: str
    first: str
    second: str
    difference: Paired
    effect: Effect

    def seen_from(self, arm: str) -> float:
        """The mean difference, `arm` minus the other."""
        return self.difference.mean if arm == self.first else -self.difference.mean


def adjusted_family(family: Mapping[Key, Paired]) -> dict[Key, Paired]:
    """`statistics.adjusted` for keys of any kind."""
    keys = {str(index): key for index, key in enumerate(family)}
    corrected = adjusted({index: family[key] for index, key in keys.items()})
    return {keys[index]: pair for index, pair in corrected.items()}


def paired_family(
    rows: Mapping[tuple[str, str, str], tuple[Values, Values]],
) -> dict[tuple[str, str, str], Pair]:
    """Every (task, first, second) with its two rows of values: tested pair by pair, Holm's correction over all."""
    tested = adjusted_family({key: compare(*values) for key, values in rows.items()})
    return {key: Pair(*key, tested[key], cohens_dz(*rows[key])) for key in rows}
