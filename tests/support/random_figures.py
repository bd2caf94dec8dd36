"""What a run of random graphs gave: figures that add up, failures as sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

__all__ = ["COSTS", "Figures", "Mismatch", "Outcome"]

COSTS = ("macs", "convolutions", "operators")


class Mismatch(AssertionError):
    """What was folded is not the original, or not cheaper; the sentence says in what."""


@dataclass(frozen=True)
class Outcome:
    """The worst relative error on all inputs, costs before and after, and how other inputs went.

    `other_batch` and `other_size` are "equal", "original refuses", "fold refuses" or "not run";
    `second` how a second fold went: "the same", "cheaper" or "not done".
    """

    error: float
    before: tuple[int, ...]
    after: tuple[int, ...]
    other_batch: str
    other_size: str
    second: str = "not done"


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

    def add(self, seed: int, check: Callable[[], tuple[Outcome, Collection[str], str]]) -> None:
        """Count the graph of that number: `check` gives its outcome, what it is made of, and its flavour."""
        self.graphs += 1
        try:
            outcome, labels, flavour = check()
        except Mismatch as error:
            self.failures[seed] = str(error)
            return
        except Exception as error:  # whatever folding raised: the seed is what matters
            self.failures[seed] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            return
        self.other.update([f"batch: {outcome.other_batch}", f"size: {outcome.other_size}", flavour])
        self.other.update([f"folded again: {outcome.second}"])
        for index, name in enumerate(COSTS):
            self.before[index] += outcome.before[index]
            self.after[index] += outcome.after[index]
            self.cheaper[name] += outcome.after[index] < outcome.before[index]
        self.cheaper["any"] += outcome.after != outcome.before
        self.worst = max(self.worst, (outcome.error, seed))
        for label in labels:
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
