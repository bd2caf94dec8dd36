"""One run of ``convfold compare blocks``: start, train, fold, verify, count, measure."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from convfold.cost import cost
from convfold.errors import ConvfoldError, InvalidArgument
from convfold.studies.asked import check_known
from convfold.studies.compare import contest
from convfold.studies.compare.blocks.arms import BLOCKS, Arm, arms_of
from convfold.studies.compare.blocks.pictures import Enlarging
from convfold.studies.compare.blocks.start import deviations, layer_ends, started
from convfold.studies.compare.blocks.tasks import SETTINGS, Digits, Task, TaskSettings, Trained
from convfold.studies.compare.contest import Entry, tuning_seeds
from convfold.studies.compare.contest_networks import content
from convfold.studies.runlog import made_with
from convfold.transform import fold
from convfold.verify import Certificate, verify

__all__ = ["Run", "RunJob", "arm_of", "checked_tasks", "make_task", "ranking_jobs", "tuning_jobs"]

# How many inputs `verify` compares on, besides the probes it makes itself.
VERIFIED = 32


@lru_cache(maxsize=16)
def make_task(name: str, settings: TaskSettings) -> Task:
    """The task of that name at these settings."""
    if name == "sr":
        return Enlarging(settings)
    titles = {"digits": "digits", "digits-200": f"digits, {settings.train_images} images", "deep": "deep without BN"}
    return Digits(name, titles[name], settings)


@lru_cache(maxsize=16)
def _every_arm(task: str) -> dict[str, Arm]:
    return arms_of(task, BLOCKS)


def arm_of(task: str, name: str) -> Arm:
    """An arm of a task by its name."""
    return _every_arm(task)[name]


def checked_tasks(names: Sequence[str]) -> list[str]:
    """`names` without repetition, in the order of all tasks.

    Raises UnknownName with the nearest names, InvalidArgument where there is none.
    """
    check_known("task", "--tasks", names, list(SETTINGS))
    if not names:
        raise InvalidArgument("there is no task to compare on", where="--tasks", expected=", ".join(SETTINGS))
    return [name for name in SETTINGS if name in names]


@dataclass(frozen=True)
class Run(contest.Run):
    """A run of this study."""

    @property
    def known(self) -> bool:
        return self.task in SETTINGS and self.arm in _every_arm(self.task)

    def settings(self, settings: TaskSettings) -> dict[str, Any]:
        """All that the result depends on besides the seed."""
        arm = arm_of(self.task, self.arm)
        return {
            **make_task(self.task, settings).settings(),
            "learning_rate": self.rate,
            "width": settings.width,
            "start": arm.start,
            "block": arm.block,
            "from": arm.reference if arm.start == "equal" else "",
            **made_with(),
        }


@dataclass(frozen=True)
class RunJob(contest.ContestJob[Run]):
    """Train one network and look at it."""

    settings: TaskSettings

    @property
    def task(self) -> Task:
        return make_task(self.what.task, self.settings)

    def start(self, arm: Arm) -> nn.Module:
        """An arm's network of this run's seed, before training."""
        task = self.task
        return started(arm, lambda: task.plain(self.settings.width), task.images(self.seed), self.seed)

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        """The result to log.

        A run that ranks and diverges is measured as it started, since nothing was learned that could be kept, and says
        so; one that tunes has no validation loss.
        """
        began, task = time.process_time(), self.task
        arm = arm_of(self.what.task, self.what.arm)
        network = self.start(arm)
        found = self._before(arm, network)
        try:
            trained = self._train(network, tell)
        except ConvfoldError as error:
            if self.what.tuning:
                return {"validation_loss": None, "diverged": str(error)}
            network = self.start(arm)
            trained = Trained([found["initial_loss"]])
            found["diverged"] = str(error)
        if self.what.tuning:
            loss = task.validation_loss(network, self.seed)
            return {"validation_loss": loss if math.isfinite(loss) else None}
        found["trained_seconds"] = time.process_time() - began
        return {**found, **self.after(network, trained)}

    def _before(self, arm: Arm, network: nn.Module) -> dict[str, Any]:
        """Loss and scale before the first step, and whether an equal start is equal."""
        if self.what.tuning:
            return {}
        task = self.task
        ends = layer_ends(task.plain(self.settings.width))
        found: dict[str, Any] = {
            "initial_loss": task.training_loss(network, self.seed),
            "deviations": list(deviations(network, ends, task.images(self.seed)).values()),
        }
        if arm.start == "equal":
            at = self.start(arm_of(self.what.task, arm.reference))
            found["started"] = _held(verify(at, network.eval(), self._examples()))
        return found

    def _train(self, network: nn.Module, tell: Callable[[Any], None]) -> Trained:
        trained = self.task.fit(network, self.what.rate, self.seed, self.what.tuning, tell)
        if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
            raise ConvfoldError("a weight is no longer finite", where=str(self), hint="Lower the learning rate.")
        # The last step is seen by no loss of training: weights may be finite and too large to compute with.
        if not math.isfinite(self.task.training_loss(network, self.seed)):
            raise ConvfoldError("the loss is no longer finite", where=str(self), hint="Lower the learning rate.")
        return trained

    def after(self, network: nn.Module, trained: Trained) -> dict[str, Any]:
        """What is deployed: measured on its folded form, which is held equal and counted."""
        task, examples = self.task, self._examples()
        network.eval()
        folded = fold(network, examples[:2])
        counted = cost(folded, examples[:1])
        value, details = task.measured(folded)
        found = {
            "value": value,
            "details": details,
            "train_loss": trained.losses,
            **trained.seen,
            "deployed": {"macs": counted.macs, "params": counted.params},
            "value_wide": task.measured(network)[0],
            "folded": _held(verify(network, folded, examples)),
        }
        if self.seed == 0:
            found["weights"] = content(folded)
        return found

    def _examples(self) -> Tensor:
        return self.task.images(self.seed)[:VERIFIED]


def _held(certificate: Certificate) -> dict[str, Any]:
    return {"equal": certificate.equal, "error": certificate.error, "bound": certificate.bound}


def tuning_jobs(entry: Entry, settings: Mapping[str, TaskSettings]) -> list[RunJob]:
    """The runs that choose the learning rate of an arm on a task."""
    of = settings[entry[0]]
    return [RunJob(Run(*entry, rate, True), s, of) for rate in of.rates for s in tuning_seeds(of.tuning_seeds)]


def ranking_jobs(
    entries: Sequence[Entry], rates: Mapping[Entry, float], settings: Mapping[str, TaskSettings]
) -> list[RunJob]:
    """The runs that are compared, seed by seed, so that an early stop leaves whole comparisons."""
    most = max(settings[task].seeds for task, _ in entries)
    return [
        RunJob(Run(*entry, rates[entry], False), seed, settings[entry[0]])
        for seed in range(most)
        for entry in entries
        if seed < settings[entry[0]].seeds
    ]
