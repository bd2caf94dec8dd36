"""All that ``convfold compare depth`` measured, and the comparisons drawn from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from convfold.studies.compare.contest import tuning_seeds
from convfold.studies.compare.contest_results import adjusted_family
from convfold.studies.compare.depth.arms import NETWORK, Settings, arms_of, network_run
from convfold.studies.compare.depth.problems import TASKS
from convfold.studies.compare.depth.runs import shared_rate
from convfold.studies.effects import Effect, cohens_dz
from convfold.studies.statistics import Paired, compare

__all__ = ["CHAIN_QUESTIONS", "NETWORK_QUESTIONS", "Comparison", "Results"]

# What is asked of a chain against depth 1, each as a logarithm to base 2 of something that is less when better.
CHAIN_QUESTIONS: dict[str, str] = {
    "best": "steps to the level, each problem at its best rate",
    "shared": "steps to the level, one rate for all problems",
    "equal": "steps to 30% of the initial loss, equal first decrease",
    "final": "last loss after all steps, at the rate that is best by it",
}
NETWORK_QUESTIONS: dict[str, str] = {"loss": "last training loss", "error": "test error, points"}
# Below this share of the initial loss a problem is solved, and what is left is rounding.
SOLVED = 1e-12


@dataclass(frozen=True)
class Comparison:
    """One arm against depth 1 on one question: the paired difference over seeds, and its size in deviations.

    All but "error" are differences of log2: `ratio` and `interval` are then factors. `reached` counts the seeds that
    got to the level, with the arm and with depth 1; a seed that did not counts with all of its steps.
    """

    task: str
    arm: str
    question: str
    difference: Paired
    effect: Effect
    reached: tuple[int, int] | None

    @property
    def ratio(self) -> float:
        return 2**self.difference.mean

    @property
    def interval(self) -> tuple[float, float] | None:
        low, high = self.difference.low, self.difference.high
        return None if low is None or high is None else (2**low, 2**high)

    @property
    def sign(self) -> int:
        """-1 where the arm has less than depth 1 beyond chance, 1 where it has more, 0 where that is not resolved."""
        return (1 if self.difference.mean > 0 else -1) if self.difference.significant else 0


@dataclass(frozen=True)
class Results:
    """The finished runs, the rates that tuning chose for the networks, and how the study was called."""

    tasks: Sequence[str]
    seeds: int
    settings: Settings
    runs: Mapping[tuple[str, int], Mapping[str, Any]]
    network_rates: Mapping[str, float]
    network_validation: Mapping[str, Mapping[float, float | None]]
    command: str
    versions: Mapping[str, str]

    @property
    def chains(self) -> list[str]:
        """The tasks but for the network."""
        return [task for task in self.tasks if task != NETWORK]

    def of(self, task: str, arm: str) -> list[Mapping[str, Any]]:
        """The runs of an arm on a task in the order of their seeds."""
        name = f"{task}/{arm}/sweep"
        if task == NETWORK:
            name = network_run(arm, self.network_rates[arm], False).name
        return [self.runs[name, seed] for seed in range(self.seeds)]

    @cached_property
    def shared(self) -> dict[tuple[str, str], float]:
        """The one rate for all problems of a task, by task and arm, from seeds that are not compared."""
        found = {}
        for task in self.chains:
            for arm in arms_of(task):
                sweeps = {s: self.runs[f"{task}/{arm}/sweep", s] for s in tuning_seeds(self.settings.tuning_seeds)}
                index = shared_rate(sweeps, self.settings.rates, self.settings.steps_of(task))
                found[task, arm] = self.settings.rates[index]
        return found

    def steps(self, task: str, arm: str, question: str) -> list[int | None]:
        """Steps until the level is reached, per seed; None where it is not within the budget."""
        if question == "equal":
            return [run["equal"]["reached"][0] for run in self.of(task, arm)]
        if question == "shared":
            index = self.settings.rates.index(self.shared[task, arm])
            return [run["steps"][index] for run in self.of(task, arm)]
        return [min((s for s in run["steps"] if s is not None), default=None) for run in self.of(task, arm)]

    def budget(self, task: str, question: str) -> int:
        """The most steps that were made."""
        return self.settings.traced_steps if question == "equal" else self.settings.steps_of(task)

    def values(self, task: str, arm: str, question: str) -> list[float]:
        """What is compared, per seed: less is better."""
        if question == "error":
            return [100 * run["wrong"] / run["test_images"] for run in self.of(task, arm)]
        if question == "loss":
            return [math.log2(run["final_loss"]) for run in self.of(task, arm)]
        if question == "final":
            return [math.log2(max(_least(run), SOLVED)) for run in self.of(task, arm)]
        budget = self.budget(task, question)
        counts = self.steps(task, arm, question)
        return [math.log2(budget if count is None else max(count, 1)) for count in counts]

    @cached_property
    def comparisons(self) -> dict[tuple[str, str, str], Comparison]:
        """Every arm against depth 1 on every question: one family, over all of which Holm's correction is made."""
        keys = [
            (task, arm, question)
            for task in self.tasks
            for arm in arms_of(task)[1:]
            for question in (NETWORK_QUESTIONS if task == NETWORK else CHAIN_QUESTIONS)
        ]
        rows = {(t, a, q): (self.values(t, a, q), self.values(t, arms_of(t)[0], q)) for t, a, q in keys}
        tested = adjusted_family({key: compare(*values) for key, values in rows.items()})
        return {key: Comparison(*key, tested[key], cohens_dz(*rows[key]), self._reached(*key)) for key in keys}

    def _reached(self, task: str, arm: str, question: str) -> tuple[int, int] | None:
        if question not in ("best", "shared", "equal"):
            return None
        first = arms_of(task)[0]
        counts = [sum(s is not None for s in self.steps(task, each, question)) for each in (arm, first)]
        return counts[0], counts[1]

    def predictions(self, part: str) -> list[tuple[str, str, float, float, float]]:
        """(task, arm, predicted steps, measured steps, deviation) of every run beside the flow that has them.

        `part` "equal" counts to 30% of the initial loss, "best" to the task's level.
        """
        found = []
        for task in self.chains:
            for arm in arms_of(task):
                for run in self.of(task, arm):
                    theory = run[part].get("predicted")
                    index = 0 if part == "equal" else -1
                    if theory and theory["reached"][index] is not None and run[part]["reached"][index] is not None:
                        steps = (theory["reached"][index], run[part]["reached"][index])
                        found.append((task, arm, *steps, theory["deviation"]))
        return found

    def mean_limit(self, task: str, arm: str) -> tuple[float, float] | None:
        """Geometric means over seeds: the rate at which theory has descent break, and the largest that got there."""
        pairs = []
        for run in self.of(task, arm):
            held = [rate for rate, s in zip(self.settings.rates, run["steps"], strict=True) if s is not None]
            if "limit" in run and held:
                pairs.append((run["limit"], max(held)))
        if not pairs:
            return None
        first, second = zip(*pairs, strict=True)
        return statistics.geometric_mean(first), statistics.geometric_mean(second)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, without the curves, which are in the log."""
        chains = {}
        for task in self.chains:
            arms = {}
            for arm in arms_of(task):
                runs = self.of(task, arm)
                arms[arm] = {
                    "shared_rate": self.shared[task, arm],
                    "best_rates": [run["best_rate"] for run in runs],
                    "equal_rates": [run["equal_rate"] for run in runs],
                    "gains": [run["gain"] for run in runs],
                    "steps": {question: self.steps(task, arm, question) for question in ("best", "shared", "equal")},
                    "final": [_least(run) for run in runs],
                    "limit": self.mean_limit(task, arm),
                    "wrong": [run["best"].get("wrong") for run in runs],
                }
            chains[task] = {"label": TASKS[task].label, "level": TASKS[task].level, "arms": arms}
        found: dict[str, Any] = {
            "study": "compare depth",
            "command": self.command,
            "versions": dict(self.versions),
            "settings": asdict(self.settings),
            "seeds": self.seeds,
            "chains": chains,
        }
        if NETWORK in self.tasks:
            found["network"] = {
                arm: {
                    "learning_rate": self.network_rates[arm],
                    "validation_loss": {f"{rate:g}": loss for rate, loss in self.network_validation[arm].items()},
                    "initial_loss": [run["initial_loss"] for run in self.of(NETWORK, arm)],
                    "final_loss": [run["final_loss"] for run in self.of(NETWORK, arm)],
                    "test_error_percent": self.values(NETWORK, arm, "error"),
                    "folded_apart": [run.get("folded_apart") for run in self.of(NETWORK, arm)],
                }
                for arm in arms_of(NETWORK)
            }
        found["comparisons"] = [asdict(one) for one in self.comparisons.values()]
        found["predictions"] = {part: self.predictions(part) for part in ("equal", "best")}
        return found


def _least(run: Mapping[str, Any]) -> float:
    """The last loss at the rate that is best by it, in the initial one."""
    return min((loss for loss in run["final"] if loss is not None), default=1.0)
