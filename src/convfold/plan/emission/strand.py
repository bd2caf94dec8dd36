"""The values between a source and what is computed of it, and where among them a single one flows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from convfold.graph.program import Node

__all__ = ["Strand", "strand"]


@dataclass(frozen=True)
class Strand:
    """All that was computed between `source` and the last of `values`, in order of execution.

    `cuts` are the places (0 behind the source, i behind ``values[i - 1]``) past which nothing but the value before
    them flows: between two cuts lies a part that has one argument and one result, however it branches inside.
    """

    source: int
    values: tuple[int, ...]
    cuts: frozenset[int]

    def part(self, held: Collection[int]) -> tuple[int, int] | None:
        """The places between which exactly the values `held` lie; None where these are no part."""
        places = [place for place, value in enumerate(self.values, 1) if value in held]
        if not places or len(places) < len(held):
            return None
        start, end = places[0] - 1, places[-1]
        whole = end - start == len(places) and start in self.cuts and end in self.cuts
        return (start, end) if whole else None


def strand(
    nodes: Mapping[int, Node], readers: Mapping[int, set[int]], live: Collection[int], value: int, source: int
) -> Strand | None:
    """The strand from `source` to `value`; None where something else goes into it or is read of it.

    `live` are the values that stay: none of them but `value` and `source` may be part of it.
    """
    found, stack = {value}, [value]
    while stack:
        current = stack.pop()
        if current not in nodes or not nodes[current].inputs:
            return None
        for above in nodes[current].inputs:
            if above == source or above in found:
                continue
            if above in live:
                return None
            found.add(above)
            stack.append(above)
    if any(not readers[v] <= found for v in found - {value}):
        return None
    values = tuple(sorted(found))
    place = {v: at for at, v in enumerate((source, *values))}
    last = dict.fromkeys(range(len(values) + 1), 0)
    for v in values:
        for above in nodes[v].inputs:
            last[place[above]] = max(last[place[above]], place[v])
    cuts, furthest = set(), 0
    for at in range(len(values) + 1):
        if furthest <= at:
            cuts.add(at)
        furthest = max(furthest, last[at])
    return Strand(source, values, frozenset(cuts))
