"""A contest over seeds: learning rates are chosen by one rule on seeds of their own, then all are trained to rank."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Generic, Protocol, Self, TypeVar

from rich.console import Console

from convfold.studies.compare.runs import NamedJob, Runs, do

__all__ = [
    "FIRST_TUNING_SEED",
    "ContestJob",
    "Entry",
    "Played",
    "Run",
    "TuningJob",
    "choose_rate",
    "mean_validation",
    "play",
    "say_log",
    "tuning_seeds",
    "validation",
    "versions",
]

# A contest's entry: a task and an arm, whose learning rate is chosen together and whose runs are one shard's.
Entry = tuple[str, str]
# Seeds that tune are never seeds that rank.
FIRST_TUNING_SEED = 1000


@dataclass(frozen=True)
class Run:
    """One network to train but for its seed: `tuning` runs choose a rate, the others rank the arms."""

    task: str
    arm: str
    rate: float
    tuning: bool

    @property
    def name(self) -> str:
        """As the log calls it."""
        return f"{self.task}/{self.arm}/{'tune' if self.tuning else 'rank'}@{self.rate:g}"

    @property
    def known(self) -> bool:
        """Whether the study has this task and this arm."""
        return True

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """The run of that name, or None for a name of another study."""
        try:
            task, arm, rest = name.split("/")
            part, rate = rest.split("@")
            found = cls(task, arm, float(rate), part == "tune")
        except ValueError:
            return None
        return found if found.name == name and found.known else None


RunT = TypeVar("RunT", bound=Run)


@dataclass(frozen=True)
class ContestJob(Generic[RunT]):
    """What every job of a contest is: a network to train, from a seed."""

    what: RunT
    seed: int

    @property
    def name(self) -> str:
        return self.what.name

    def __str__(self) -> str:
        return f"training {self.name}, seed {self.seed}"


class TuningJob(NamedJob, Protocol):
    """A job that tries one learning rate; its result holds "validation_loss", None where it diverged."""

    @property
    def what(self) -> Run: ...


@dataclass(frozen=True)
class Played:
    """By task and arm the chosen rate and what tuning saw at each; all results of the log; how many runs these are."""

    rates: Mapping[Entry, float]
    validation: Mapping[Entry, Mapping[float, float | None]]
    results: Mapping[tuple[str, int], Mapping[str, Any]]
    runs: int


def tuning_seeds(count: int) -> range:
    """The seeds that choose a learning rate."""
    return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + count)


def choose_rate(losses: Mapping[float, Sequence[float | None]]) -> float:
    """The rate with the least mean validation loss; one that ever diverged (None) only if all did.

    Then the one that diverged least often counts first; of equal rates the lower.
    """

    def rank(rate: float) -> tuple[int, float, float]:
        values = [value for value in losses[rate] if value is not None]
        return len(losses[rate]) - len(values), sum(values) / max(len(values), 1), rate

    return min(losses, key=rank)


def say_log(console: Console, runs: Runs) -> None:
    """What of the log is used, and what is not."""
    if finished := len(runs.results):
        console.print(f"Resuming: {finished} finished runs are taken from the log.", highlight=False)
    if runs.foreign:
        console.print(f"{runs.foreign} runs of the log were made under other settings and are not used.")
    if runs.damaged:
        console.print(f"{runs.damaged} lines of the log are cut off or not a comparison's, and ignored.")


def play(
    entries: Sequence[Entry],
    tuning_jobs: Callable[[Entry], Sequence[TuningJob]],
    ranking_jobs: Callable[[Mapping[Entry, float]], Sequence[NamedJob]],
    runs: Runs,
    console: Console,
    workers: int | None,
) -> Played:
    """Tune every entry, choose its rate, and make the runs that rank; what the log has already is not made again.

    Raises ConvfoldError when a run fails or a worker dies; what is logged by then stays.
    """
    tuning = {entry: tuning_jobs(entry) for entry in entries}
    every = [job for jobs in tuning.values() for job in jobs]
    do(every, runs, console, "Choosing learning rates", workers)
    seen = {entry: validation(jobs, runs) for entry, jobs in tuning.items()}
    rates = {entry: choose_rate(found) for entry, found in seen.items()}
    ranking = ranking_jobs(rates)
    do(ranking, runs, console, "Training to be ranked", workers)
    means = {entry: mean_validation(found) for entry, found in seen.items()}
    return Played(rates, means, runs.results, len(every) + len(ranking))


def validation(jobs: Sequence[TuningJob], runs: Runs) -> dict[float, list[float | None]]:
    """By rate the validation losses of finished tuning runs, seed by seed; None where one diverged."""
    found: dict[float, list[float | None]] = {}
    finished = runs.results
    for job in jobs:
        found.setdefault(job.what.rate, []).append(finished[job.name, job.seed]["validation_loss"])
    return found


def mean_validation(found: Mapping[float, Sequence[float | None]]) -> dict[float, float | None]:
    """By rate the mean of its losses; None where a run diverged."""
    means: dict[float, float | None] = {}
    for rate, losses in found.items():
        known = [loss for loss in losses if loss is not None]
        means[rate] = sum(known) / len(known) if len(known) == len(losses) else None
    return means


def versions() -> dict[str, str]:
    """Of everything that a comparison's figures depend on."""
    packages = ("convfold", "torch", "scikit-learn", "scipy", "matplotlib")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
