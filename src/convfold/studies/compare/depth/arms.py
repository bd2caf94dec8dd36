"""The settings of ``convfold compare depth``, what its runs are called, and which jobs make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from convfold.errors import UnknownName
from convfold.studies.compare.contest import Entry, Run
from convfold.studies.compare.contest_data import parted_digits
from convfold.studies.compare.depth.network import ARMS
from convfold.studies.compare.depth.problems import SAMPLES, TASKS, TEST_SHARE
from convfold.studies.runlog import made_with
from convfold.train import Recipe

__all__ = [
    "DEPTHS",
    "NETWORK",
    "QUICK_TASKS",
    "Settings",
    "arms_of",
    "chosen_tasks",
    "entries_of",
    "network_run",
    "quick",
    "settings_of",
]

DEPTHS = (1, 2, 3, 4)
NETWORK = "network"
QUICK_TASKS = "vector-p2-k10-small,vector-p4-k10-small,matrix-p2-k10-unit,digits-small,network"


@dataclass(frozen=True)
class Settings:
    """What decides every run, besides task, arm and seed. Rates step by sqrt(2), one grid for all depths."""

    steps: int = 2000
    # The end of a loss of the fourth power is flat.
    flat_steps: int = 5000
    # Of digits a sweep is dear; the two runs beside the theory are not.
    digits_steps: int = 300
    traced_steps: int = 1000
    rates: tuple[float, ...] = tuple(2.0 ** (exponent / 2) for exponent in range(-14, 15))
    # Of the initial loss: what the first step of the runs that start equally fast takes away, to first order.
    share: float = 0.01
    tuning_seeds: int = 5
    predicted_seeds: int = 8
    epochs: int = 20
    batch_size: int = 64
    width: int = 8
    network_rates: tuple[float, ...] = tuple(0.05 * 2.0 ** (exponent / 2) for exponent in range(10))
    network_tuning_seeds: int = 5

    def steps_of(self, task: str) -> int:
        """The most steps of a sweep."""
        if TASKS[task].kind == "digits":
            return self.digits_steps
        return self.steps if TASKS[task].p == 2 else self.flat_steps

    def recipe(self, rate: float) -> Recipe:
        """Plain steps, as theory has them; on factors weight decay is another penalty of the map at every depth."""
        return Recipe(self.epochs, self.batch_size, rate, momentum=0.0, weight_decay=0.0)


def quick(settings: Settings) -> Settings:
    """The smallest setting that goes through everything: nothing it says is worth quoting."""
    return replace(
        settings,
        steps=200,
        flat_steps=200,
        digits_steps=100,
        traced_steps=200,
        rates=settings.rates[::4],
        tuning_seeds=1,
        predicted_seeds=1,
        epochs=2,
        network_rates=(0.1, 0.4),
        network_tuning_seeds=1,
    )


def network_run(arm: str, rate: float, tuning: bool) -> Run:
    """A training of the network of an arm but for its seed."""
    return Run(NETWORK, arm, rate, tuning)


def arms_of(task: str) -> list[str]:
    """The arms of a task; the first is what the others are compared with."""
    return list(ARMS) if task == NETWORK else [f"depth{depth}" for depth in DEPTHS]


def chosen_tasks(text: str | None) -> list[str]:
    """The tasks that `text` names, in their own order: names or globs with commas between; None takes all.

    Raises UnknownName for a part that names none.
    """
    every = [*TASKS, NETWORK]
    if text is None:
        return every
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not any(fnmatchcase(task, part) for task in every):
            raise UnknownName("no task is called so", where="--tasks", got=repr(part), expected=", ".join(every))
    return [task for task in every if any(fnmatchcase(task, part) for part in parts)]


def entries_of(tasks: Sequence[str]) -> list[Entry]:
    """Every arm of every task: what shards take apart."""
    return [(task, arm) for task in tasks for arm in arms_of(task)]


def settings_of(name: str, settings: Settings) -> dict[str, Any]:
    """All that the result of the run of that name depends on besides the seed; empty for a name of another study."""
    task, _, rest = name.partition("/")
    arm, _, kind = rest.partition("/")
    if (run := Run.parse(name)) is not None and run.task == NETWORK and run.arm in ARMS:
        recipe = asdict(settings.recipe(run.rate))
        return {**recipe, "width": settings.width, "data": parted_digits(run.tuning).fingerprint, **made_with()}
    if task in TASKS and arm in arms_of(task) and kind == "sweep":
        chain = {
            "steps": settings.steps_of(task),
            "traced_steps": settings.traced_steps,
            "rates": settings.rates,
            "share": settings.share,
            "predicted_seeds": settings.predicted_seeds,
            "samples": SAMPLES,
            "test_share": TEST_SHARE,
        }
        return {**asdict(TASKS[task]), "level": TASKS[task].level, **chain, **made_with()}
    return {}
