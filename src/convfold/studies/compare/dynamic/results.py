"""All that ``convfold compare dynamic`` measured, and the comparisons drawn from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from convfold.studies.compare.contest_results import Pair, adjusted_family, paired_family
from convfold.studies.compare.dynamic.arms import STATIC, Run, Settings
from convfold.studies.demo.cost import Latency
from convfold.studies.statistics import Paired, Spread, compare, spread

__all__ = ["Cost", "Pair", "Results"]


@dataclass(frozen=True)
class Cost:
    """Of one arm's network: MACs of one image, parameters, and latency over static's at batch 1 and at a large one."""

    macs: int
    params: int
    single: Latency
    batch: Latency


@dataclass(frozen=True)
class Results:
    """The ranking runs by (task, arm, seed), the rates that tuning chose, costs by arm, and how it was called."""

    tasks: Sequence[str]
    arms: Sequence[str]
    seeds: int
    settings: Settings
    rates: Mapping[tuple[str, str], float]
    validation: Mapping[tuple[str, str], Mapping[float, float | None]]
    runs: Mapping[tuple[str, int], Mapping[str, Any]]
    costs: Mapping[str, Cost]
    control: tuple[Latency, Latency]
    latency_batch: int
    command: str
    versions: Mapping[str, str]

    def of(self, task: str, arm: str) -> list[Mapping[str, Any]]:
        """The runs of an arm on a task in the order of their seeds."""
        name = Run(task, arm, self.rates[task, arm], False).name
        return [self.runs[name, seed] for seed in range(self.seeds)]

    @property
    def others(self) -> list[str]:
        """Every arm but static."""
        return [arm for arm in self.arms if arm != STATIC]

    def test_images(self, task: str) -> int:
        return int(self.of(task, self.arms[0])[0]["test_images"])

    def errors(self, task: str, arm: str) -> list[float]:
        """Test error in per cent, per seed."""
        return [100 * run["wrong"] / run["test_images"] for run in self.of(task, arm)]

    def error(self, task: str, arm: str) -> Spread:
        return spread(self.errors(task, arm))

    def ranked(self, task: str) -> list[str]:
        """The arms by their mean error, least first."""
        return sorted(self.arms, key=lambda arm: self.error(task, arm).mean)

    @cached_property
    def pairs(self) -> dict[tuple[str, str, str], Pair]:
        """Every two arms on every task: one family, over all of which Holm's correction is made."""
        keys = [(task, a, b) for task in self.tasks for a, b in combinations(self.arms, 2)]
        rows = {key: (self.errors(key[0], key[1]), self.errors(key[0], key[2])) for key in keys}
        return paired_family(rows)

    def pair(self, task: str, a: str, b: str) -> Pair:
        """The comparison of these two, in whichever order it was made."""
        return self.pairs[(task, a, b) if (task, a, b) in self.pairs else (task, b, a)]

    @cached_property
    def correlations(self) -> dict[tuple[str, str], Paired]:
        """Mean |r| between channels, over layers, minus static's, by task and arm; a family of its own."""
        found = {
            (task, arm): compare(self.correlation(task, arm), self.correlation(task, STATIC))
            for task in self.tasks
            for arm in self.others
        }
        return adjusted_family(found)

    def correlation(self, task: str, arm: str) -> list[float]:
        """Mean |r| over the layers, per seed."""
        rows = [[value for value in run["correlation"].values() if value is not None] for run in self.of(task, arm)]
        return [math.fsum(row) / len(row) if row else 0.0 for row in rows]

    def early_loss(self, task: str, arm: str) -> list[float]:
        """Mean training loss of the epochs in which an annealed temperature cools, per seed."""
        first = self.settings.cooling_epochs
        return [math.fsum(run["train_loss"][:first]) / first for run in self.of(task, arm)]

    def mean(self, task: str, arm: str, value: Callable[[Mapping[str, Any]], float]) -> float:
        """The mean of some value over the runs of an arm."""
        return math.fsum(value(run) for run in self.of(task, arm)) / self.seeds

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, without the learning curves, which are in the log."""
        tasks = {}
        for task in self.tasks:
            arms = {}
            for arm in self.arms:
                arms[arm] = {
                    "learning_rate": self.rates[task, arm],
                    "validation_loss": {f"{r:g}": v for r, v in self.validation[task, arm].items()},
                    "test_error_percent": self.errors(task, arm),
                    "test_error": asdict(self.error(task, arm)),
                    "initial_loss": self.mean(task, arm, lambda run: run["initial_loss"]),
                    "final_train_loss": self.mean(task, arm, lambda run: run["train_loss"][-1]),
                    "correlation": self.correlation(task, arm),
                    "correlation_against_static": asdict(self.correlations[task, arm]) if arm != STATIC else None,
                    "routing": [run["routing"] for run in self.of(task, arm)],
                }
            tasks[task] = {"test_images": self.test_images(task), "ranked": self.ranked(task), "arms": arms}
        return {
            "study": "compare dynamic",
            "command": self.command,
            "versions": dict(self.versions),
            "settings": asdict(self.settings),
            "seeds": self.seeds,
            "tasks": tasks,
            "pairs": [asdict(pair) for pair in self.pairs.values()],
            "costs": {arm: asdict(cost) for arm, cost in self.costs.items()},
            "latency_batch": self.latency_batch,
            "latency_control": [asdict(control) for control in self.control],
        }
