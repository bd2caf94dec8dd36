"""All that ``convfold compare blocks`` measured, and the comparisons drawn from it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from convfold.studies.compare.blocks.arms import PLAIN, Arm, arms_of
from convfold.studies.compare.blocks.run import Run, make_task
from convfold.studies.compare.blocks.tasks import Task, TaskSettings
from convfold.studies.compare.contest import Entry
from convfold.studies.compare.contest_results import Pair, paired_family
from convfold.studies.statistics import Spread, spread
from convfold.studies.timing import Ratio

__all__ = ["EARLY", "END", "Results", "StepTimes"]

# The two things compared: what is deployed, and how fast the beginning was.
END, EARLY = "end", "early"
# Of a training run, what counts as its beginning.
_BEGINNING = 1 / 4


@dataclass(frozen=True)
class StepTimes:
    """CPU time of a training step over plain's, by arm, and of plain against itself; plain's in seconds."""

    ratios: Mapping[str, Ratio]
    control: Ratio
    plain_seconds: float


@dataclass(frozen=True)
class Results:
    """The ranking runs, the rates that tuning chose, the time of a step by task, and how it was called."""

    tasks: Sequence[str]
    blocks: Sequence[str]
    settings: Mapping[str, TaskSettings]
    rates: Mapping[Entry, float]
    validation: Mapping[Entry, Mapping[float, float | None]]
    runs: Mapping[tuple[str, int], Mapping[str, Any]]
    times: Mapping[str, StepTimes]
    command: str
    versions: Mapping[str, str]
    quick: bool = False

    @cached_property
    def arms(self) -> dict[str, dict[str, Arm]]:
        """By task and name."""
        return {task: arms_of(task, self.blocks) for task in self.tasks}

    def task(self, name: str) -> Task:
        return make_task(name, self.settings[name])

    def arm(self, task: str, name: str) -> Arm:
        return self.arms[task][name]

    def block_arms(self, task: str) -> list[Arm]:
        """The arms that train a block."""
        return [arm for arm in self.arms[task].values() if arm.is_block]

    def of(self, task: str, arm: str) -> list[Mapping[str, Any]]:
        """The runs of an arm on a task in the order of their seeds."""
        name = Run(task, arm, self.rates[task, arm], False).name
        return [self.runs[name, seed] for seed in range(self.settings[task].seeds)]

    def each(self, task: str) -> list[Mapping[str, Any]]:
        """The runs of all arms on a task."""
        return [run for arm in self.arms[task] for run in self.of(task, arm)]

    def values(self, question: str, task: str, arm: str) -> list[float]:
        """Per seed what is measured at the end, or the mean training loss of the first quarter."""
        if question == END:
            return [run["value"] for run in self.of(task, arm)]
        return [_beginning(run["train_loss"]) for run in self.of(task, arm)]

    def spread(self, question: str, task: str, arm: str) -> Spread:
        return spread(self.values(question, task, arm))

    def lower_is_better(self, question: str, task: str) -> bool:
        return question == EARLY or self.task(task).measure.lower_is_better

    @cached_property
    def claims(self) -> dict[str, dict[tuple[str, str, str], Pair]]:
        """By question: every arm of a block against its reference on every task, one family."""
        keys = [(task, arm.name, arm.reference) for task in self.tasks for arm in self.block_arms(task)]
        return {question: self._family(question, keys) for question in (END, EARLY)}

    @cached_property
    def scales(self) -> dict[str, dict[tuple[str, str, str], Pair]]:
        """By question: every control against the references, and every arm of a block against its controls."""
        keys: dict[tuple[str, str, str], None] = {}
        for task in self.tasks:
            for arm in self.block_arms(task):
                for control in arm.controls:
                    keys[task, control, arm.reference] = None
                    keys[task, arm.name, control] = None
        return {question: self._family(question, list(keys)) for question in (END, EARLY)}

    def _family(self, question: str, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], Pair]:
        return paired_family(
            {key: (self.values(question, key[0], key[1]), self.values(question, key[0], key[2])) for key in keys}
        )

    def claim(self, question: str, task: str, arm: Arm) -> Pair:
        """An arm of a block against its reference."""
        return self.claims[question][task, arm.name, arm.reference]

    def scale(self, question: str, task: str, arm: str, other: str) -> Pair:
        """A control against a reference, or a block against a control."""
        return self.scales[question][task, arm, other]

    def mean(self, task: str, arm: str, value: Callable[[Mapping[str, Any]], float]) -> float:
        """The mean of some value over the runs of an arm."""
        runs = self.of(task, arm)
        return math.fsum(value(run) for run in runs) / len(runs)

    def deviations(self, task: str, arm: str) -> list[float]:
        """How far the outputs of each layer deviate at the start, the mean over seeds."""
        runs = self.of(task, arm)
        return [math.fsum(layer) / len(runs) for layer in zip(*(run["deviations"] for run in runs), strict=True)]

    def diverged(self, task: str, arm: str) -> int:
        """Runs that rank and lost their way."""
        return sum("diverged" in run for run in self.of(task, arm))

    @property
    def unequal(self) -> list[str]:
        """Every run of which a fold or an equal start was not certified, or whose deployed network is another's."""
        found = []
        for task in self.tasks:
            counted = self.of(task, PLAIN)[0]["deployed"]
            for arm in self.arms[task]:
                for seed, run in enumerate(self.of(task, arm)):
                    held = all(run[key]["equal"] for key in ("started", "folded") if key in run)
                    if not held or run["deployed"] != counted:
                        found.append(f"{task}/{arm}, seed {seed}")
        return found

    def certified(self, key: str) -> int:
        """How many certificates of that kind there are, equal or not."""
        return sum(key in run for task in self.tasks for run in self.each(task))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, without the learning curves, which are in the log."""
        return {
            "study": "compare blocks",
            "command": self.command,
            "versions": dict(self.versions),
            "settings": {task: asdict(self.settings[task]) for task in self.tasks},
            "unequal": self.unequal,
            "tasks": {task: self._task_dict(task) for task in self.tasks},
            "claims": {q: [asdict(pair) for pair in family.values()] for q, family in self.claims.items()},
            "scales": {q: [asdict(pair) for pair in family.values()] for q, family in self.scales.items()},
        }

    def _task_dict(self, task: str) -> dict[str, Any]:
        arms = {}
        for name, arm in self.arms[task].items():
            arms[name] = {
                **asdict(arm),
                "learning_rate": self.rates[task, name],
                "validation_loss": {f"{rate:g}": v for rate, v in self.validation[task, name].items()},
                "values": self.values(END, task, name),
                "value": asdict(self.spread(END, task, name)),
                "early_loss": asdict(self.spread(EARLY, task, name)),
                "initial_loss": self.mean(task, name, lambda run: run["initial_loss"]),
                "initial_deviations": self.deviations(task, name),
                "diverged": self.diverged(task, name),
            }
        times = self.times[task]
        return {
            "measure": asdict(self.task(task).measure),
            "deployed": self.of(task, PLAIN)[0]["deployed"],
            "arms": arms,
            "step_over_plain": {arm: ratio.to_dict() for arm, ratio in times.ratios.items()},
            "step_control": times.control.to_dict(),
            "plain_step_seconds": times.plain_seconds,
        }


def _beginning(losses: Sequence[float]) -> float:
    first = max(1, round(_BEGINNING * len(losses)))
    return math.fsum(losses[:first]) / first
