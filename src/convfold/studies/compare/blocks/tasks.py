"""What a task of ``convfold compare blocks`` is, the settings of each, and the three that classify digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from convfold.studies.compare.contest_data import parted_digits
from convfold.studies.compare.contest_networks import mean_loss
from convfold.train import Data, Recipe, count_wrong, plain_cnn, train

__all__ = ["SETTINGS", "Digits", "Measure", "Task", "TaskSettings", "Trained", "deep_cnn", "quick"]

DEPTH = 8


@dataclass(frozen=True)
class Measure:
    """What is compared: its name, its unit in sentences, and whether lower is better."""

    name: str
    unit: str
    lower_is_better: bool = True


ERROR = Measure("test error, %", "points")


@dataclass(frozen=True)
class TaskSettings:
    """What decides every run of a task, besides arm, rate and seed; `rates` are those that tuning tries.

    `length` is in epochs, for super-resolution in steps; `train_images` are drawn anew for each seed, None takes all.
    """

    length: int
    batch_size: int
    width: int
    rates: tuple[float, ...]
    seeds: int
    tuning_seeds: int = 4
    train_images: int | None = None


# At one rate blocks move the folded kernel by very different steps, so the grids are wide. Where a factor of three is
# worth decibels, or half of the runs, they step by two. A rate chosen by luck is wrong for all runs that rank, which
# no test over seeds would show: hence the number of seeds that tune.
SETTINGS: dict[str, TaskSettings] = {
    "digits": TaskSettings(12, 64, 8, (0.1, 0.3, 1.0, 3.0), 20),
    "digits-200": TaskSettings(24, 32, 8, (0.1, 0.3, 1.0, 3.0), 20, train_images=200),
    "deep": TaskSettings(20, 64, 8, (0.005, 0.01, 0.02, 0.04, 0.08), 20),
    "sr": TaskSettings(400, 8, 16, (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2), 12, tuning_seeds=2),
}


def quick(settings: TaskSettings) -> TaskSettings:
    """The smallest setting that goes through everything: nothing it says is worth quoting."""
    return replace(settings, length=2, width=4, rates=settings.rates[1:3], seeds=2, tuning_seeds=1)


@dataclass(frozen=True)
class Trained:
    """A training run: mean loss of each of its parts (epochs, or as many tenths), and what else was seen in each."""

    losses: list[float]
    seen: dict[str, list[float]] = field(default_factory=dict)


class Task(Protocol):
    """One question: a plain network, what it is trained on, and what is measured of it."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def measure(self) -> Measure: ...

    def plain(self, width: int) -> nn.Module:
        """The plain network, drawn from the global generator."""
        ...

    def images(self, seed: int) -> Tensor:
        """A few training inputs of a seed: what scales are measured on and folds verified on."""
        ...

    def fit(self, network: nn.Module, rate: float, seed: int, tuning: bool, tell: Callable[[int], None]) -> Trained:
        """Train in place. Raises ConvfoldError as soon as the loss is not finite."""
        ...

    def step(self, network: nn.Module) -> Callable[[], object]:
        """One training step, to be timed."""
        ...

    def training_loss(self, network: nn.Module, seed: int) -> float:
        """Of a network on what a seed trains on, in eval mode."""
        ...

    def validation_loss(self, network: nn.Module, seed: int) -> float:
        """What decides the rate: lower is better."""
        ...

    def measured(self, network: nn.Module) -> tuple[float, dict[str, Any]]:
        """What is compared, of a network on what only tests, and what else is kept of it."""
        ...

    @property
    def steps(self) -> int:
        """How many a training run makes."""
        ...

    def settings(self) -> dict[str, Any]:
        """What a run's outcome depends on besides rate, width, arm and seed."""
        ...


def deep_cnn(width: int = 8, depth: int = DEPTH) -> nn.Sequential:
    """`depth` convolutions 3x3 with ReLU and without batch normalisation: half at 8x8, half at 4x4; linear head.

    >>> deep_cnn()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    layers: list[nn.Module] = []
    inputs = 1
    for index in range(depth):
        outputs = width if index < depth // 2 else 2 * width
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2 if index == depth // 2 else 1, padding=1), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))


@dataclass(frozen=True)
class Digits:
    """Digits by a CNN of three convolutions with batch normalisation, or by a deep one without."""

    name: str
    title: str
    of: TaskSettings
    measure: Measure = ERROR

    def plain(self, width: int) -> nn.Module:
        return deep_cnn(width) if self.name == "deep" else plain_cnn(10, width)

    def data(self, seed: int, tuning: bool) -> Data:
        """The images of a seed; where few train they are drawn anew for each."""
        data = parted_digits(tuning)
        if self.of.train_images is None:
            return data
        chosen = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(seed))
        chosen = chosen[: self.of.train_images]
        return replace(data, name=self.name, train_x=data.train_x[chosen], train_y=data.train_y[chosen])

    def images(self, seed: int) -> Tensor:
        return self.data(seed, False).train_x[:64]

    def fit(self, network: nn.Module, rate: float, seed: int, tuning: bool, tell: Callable[[int], None]) -> Trained:
        recipe = Recipe(self.of.length, self.of.batch_size, rate)
        history = train(network, self.data(seed, tuning), recipe, seed, lambda index, _: tell(index + 1))
        return Trained([e.train_loss for e in history], {"test_error": [e.test_error for e in history]})

    def step(self, network: nn.Module) -> Callable[[], object]:
        data = self.data(0, False)
        images, labels = data.train_x[: self.of.batch_size], data.train_y[: self.of.batch_size]
        optimiser = torch.optim.SGD(network.train().parameters(), lr=1e-6, momentum=0.9)

        def step() -> None:
            optimiser.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        return step

    def training_loss(self, network: nn.Module, seed: int) -> float:
        return mean_loss(network, self.data(seed, False), train=True)

    def validation_loss(self, network: nn.Module, seed: int) -> float:
        return mean_loss(network, self.data(seed, True), train=False)

    def measured(self, network: nn.Module) -> tuple[float, dict[str, Any]]:
        data = parted_digits(False)
        wrong, images = count_wrong(network, data.test_x, data.test_y), len(data.test_y)
        return 100 * wrong / images, {"wrong": wrong, "test_images": images}

    @property
    def steps(self) -> int:
        return self.of.length * max(len(self.data(0, False).train_x) // self.of.batch_size, 1)

    def settings(self) -> dict[str, Any]:
        recipe = asdict(Recipe(self.of.length, self.of.batch_size))
        del recipe["learning_rate"]
        depth = {"depth": DEPTH} if self.name == "deep" else {}
        data = {"data": parted_digits(False).fingerprint, "train_images": self.of.train_images}
        return {**recipe, **depth, **data}
