"""The arms of ``convfold compare dynamic``, the settings of its runs, and the job that makes one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from convfold.dynamic import TemperatureSchedule
from convfold.errors import ConvfoldError
from convfold.studies.compare import contest
from convfold.studies.compare.contest import choose_rate, tuning_seeds
from convfold.studies.compare.contest_networks import content, mean_loss
from convfold.studies.compare.dynamic.network import APART, EXPERTS, started
from convfold.studies.compare.dynamic.seen import channel_correlations, routing
from convfold.studies.compare.dynamic.tasks import TASKS, dataset
from convfold.studies.runlog import made_with
from convfold.train import Data, Recipe, count_wrong, train

__all__ = ["ARMS", "STATIC", "Arm", "Run", "RunJob", "Settings", "choose_rate", "label"]

STATIC = "static"
# Published: 30 to 1 over the first epochs (arXiv 1912.03458).
HOTTEST, COOLING = 30.0, 1 / 3


@dataclass(frozen=True)
class Arm:
    """One competitor: its name for people, whole and `short`, its kind of convolution, whether it is annealed."""

    label: str
    short: str
    kind: str
    annealed: bool = False


ARMS: dict[str, Arm] = {
    STATIC: Arm("static", "static", "static"),
    "blind": Arm("blind kernels", "blind", "uniform"),
    "se": Arm("SE gate", "SE", "se"),
    "wide": Arm("double width", "wide", "wide"),
    "condconv": Arm("CondConv", "Cond", "condconv"),
    "dynamicconv": Arm("DynamicConv (τ 30→1)", "Dynamic 30→1", "dynamicconv", annealed=True),
    "dynamicconv-cold": Arm("DynamicConv (τ 1)", "Dynamic 1", "dynamicconv"),
    "dynet": Arm("DyNet", "DyNet", "dynet"),
}


def label(arm: str) -> str:
    """An arm's name for people."""
    return ARMS[arm].label


@dataclass(frozen=True)
class Settings:
    """What decides every run, besides task, arm, learning rate and seed. `rates` are those that tuning tries."""

    epochs: int = 20
    batch_size: int = 64
    width: int = 8
    # Far apart: at one rate, a mixture that adds to one steps K times more slowly than a static kernel.
    rates: tuple[float, ...] = (0.1, 0.2, 0.4, 0.8, 1.6)
    tuning_seeds: int = 3

    def recipe(self, rate: float) -> Recipe:
        return Recipe(self.epochs, self.batch_size, rate)

    @property
    def cooling_epochs(self) -> int:
        """Epochs until an annealed temperature is 1."""
        return max(1, round(COOLING * self.epochs))

    @property
    def cooling(self) -> str:
        """The same in words."""
        return "epoch" if self.cooling_epochs == 1 else f"{self.cooling_epochs} epochs"


@dataclass(frozen=True)
class Run(contest.Run):
    """A run of this study."""

    @property
    def known(self) -> bool:
        return self.task in TASKS and self.arm in ARMS

    def settings(self, settings: Settings) -> dict[str, Any]:
        """All that the result depends on besides the seed."""
        arm = ARMS[self.arm]
        return {
            **asdict(settings.recipe(self.rate)),
            "width": settings.width,
            "kind": arm.kind,
            "experts": EXPERTS,
            "apart": APART,
            "cooling": [HOTTEST, settings.cooling_epochs] if arm.annealed else None,
            "data": dataset(self.task, 0, self.tuning).fingerprint,
            **made_with(),
        }


@dataclass(frozen=True)
class RunJob(contest.ContestJob[Run]):
    """Train one network and look at it."""

    settings: Settings
    keep_weights: bool = False

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        """The result to log, and under "weights" the content of a safetensors file where they are kept."""
        what = self.what
        data = dataset(what.task, self.seed, what.tuning)
        network = started(ARMS[what.arm].kind, self.seed, self.settings.width)
        result: dict[str, Any] = {"initial_loss": mean_loss(network, data, train=True)}
        try:
            history = self._train(network, data, tell)
        except ConvfoldError as error:
            if not what.tuning:
                raise
            return {**result, "validation_loss": None, "diverged": str(error)}
        if what.tuning:
            return {**result, "validation_loss": mean_loss(network, data, train=False)}
        result |= {
            "train_loss": [epoch.train_loss for epoch in history],
            "test_error": [epoch.test_error for epoch in history],
            "wrong": count_wrong(network, data.test_x, data.test_y),
            "test_images": len(data.test_y),
            "test_loss": mean_loss(network, data, train=False),
            "routing": routing(network, data.test_x, both_ways=what.task == "inverted"),
            "correlation": channel_correlations(network, data.test_x),
        }
        if self.keep_weights:
            result["weights"] = content(network)
        return result

    def _train(self, network: nn.Module, data: Data, tell: Callable[[int], None]) -> Sequence[Any]:
        steps = self.settings.cooling_epochs
        annealed = ARMS[self.what.arm].annealed
        schedule = TemperatureSchedule(network, HOTTEST, 1.0, steps) if annealed else None

        def after(index: int, _: Any) -> None:
            if schedule is not None:
                schedule.step()
            tell(index + 1)

        return train(network, data, self.settings.recipe(self.what.rate), self.seed, after)


def tuning_jobs(task: str, arm: str, settings: Settings) -> list[RunJob]:
    """The runs that choose the learning rate of an arm on a task."""
    seeds = tuning_seeds(settings.tuning_seeds)
    return [RunJob(Run(task, arm, rate, True), seed, settings) for rate in settings.rates for seed in seeds]


def quick(settings: Settings) -> Settings:
    """The smallest setting that goes through everything: nothing it says is worth quoting."""
    return replace(settings, epochs=2, rates=(0.1, 0.4), tuning_seeds=1)
