"""A run of random graphs as a job for another process: figures that add up, failures as sentences."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from support.random_check import COSTS, Mismatch, check_graph
from support.random_graphs import random_graph

__all__ = ["OPEN", "TWICE", "Figures", "GraphJob", "figures_of"]

# Every so many graphs are folded twice; in a long run, every so many are captured with open sizes.
TWICE = 5
OPEN = 10


@dataclass
class Figures:
    """What a run of graphs gave; `operators` by kind: how many graphs have it, and their worst error."""

    graphs: int = 0
    cheaper: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    before: list[int] = field(default_factory=lambda: [0] * len(COSTS))
    after: list[int] = field(default_factory=lambda: [0] * len(COSTS))
    worst: tuple[float, int] = (0.0, -1)
    operators: dict[str, tuple[int, float]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    fixed: bool = False

    def add(self, seed: int) -> None:
        """Check the graph of that number and count it."""
        self.graphs += 1
        try:
            graph = random_graph(seed)
            outcome = check_graph(graph, twice=seed % TWICE == 0, fixed=self.fixed and seed % OPEN != 0)
        except Mismatch as error:
            self.failures[seed] = str(error)
            return
        except Exception as error:  # whatever folding raised: the seed is what matters
            self.failures[seed] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return
        self.other.update([f"batch: {outcome.other_batch}", f"size: {outcome.other_size}", graph.flavour])
        self.other.update([f"folded again: {outcome.second}"])
        for index, name in enumerate(COSTS):
            self.before[index] += outcome.before[index]
            self.after[index] += outcome.after[index]
            self.cheaper[name] += outcome.after[index] < outcome.before[index]
        self.worst = max(self.worst, (outcome.error, seed))
        for label in graph.labels:
            self._operator(label, 1, outcome.error)

    def _operator(self, label: str, graphs: int, error: float) -> None:
        known = self.operators.get(label, (0, 0.0))
        self.operators[label] = (known[0] + graphs, max(known[1], error))

    def join(self, other: Figures) -> None:
        """Add the figures of another run."""
        self.graphs += other.graphs
        self.cheaper.update(other.cheaper)
        self.other.update(other.other)
        self.before = [a + b for a, b in zip(self.before, other.before, strict=True)]
        self.after = [a + b for a, b in zip(self.after, other.after, strict=True)]
        self.worst = max(self.worst, other.worst)
        for label, (graphs, error) in other.operators.items():
            self._operator(label, graphs, error)
        self.failures.update(other.failures)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; operators from the most frequent on."""
        ordered = sorted(self.operators.items(), key=lambda item: (-item[1][0], item[0]))
        return {
            "graphs": self.graphs,
            "failures": {str(seed): self.failures[seed] for seed in sorted(self.failures)},
            "worst_error": self.worst[0],
            "worst_seed": self.worst[1],
            "cheaper": dict(self.cheaper),
            "costs_before": dict(zip(COSTS, self.before, strict=True)),
            "costs_after": dict(zip(COSTS, self.after, strict=True)),
            "other_inputs": dict(sorted(self.other.items())),
            "operators": {label: {"graphs": n, "worst_error": error} for label, (n, error) in ordered},
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Figures:
        """The figures that `to_dict` gave."""
        return cls(
            fields["graphs"],
            Counter(fields["cheaper"]),
            Counter(fields["other_inputs"]),
            list(fields["costs_before"].values()),
            list(fields["costs_after"].values()),
            (fields["worst_error"], fields["worst_seed"]),
            {label: (row["graphs"], row["worst_error"]) for label, row in fields["operators"].items()},
            {int(seed): reason for seed, reason in fields["failures"].items()},
        )


@dataclass(frozen=True)
class GraphJob:
    """The graphs of some seeds."""

    seeds: range

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        return figures_of(self.seeds, fixed=True).to_dict()


def figures_of(seeds: Iterable[int], fixed: bool = False) -> Figures:
    """Check the graphs of these seeds; with `fixed`, all but every tenth are captured at their own sizes alone."""
    figures = Figures(fixed=fixed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:
            figures.add(seed)
    return figures
