"""All that a demo measured, and the comparisons drawn from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from convfold.studies.demo.arms import CONTROL, PLAIN, Settings, is_block
from convfold.studies.demo.cost import Latency
from convfold.studies.demo.kernels import KernelView
from convfold.studies.statistics import Paired, Spread, adjusted, compare, spread

__all__ = ["Network", "Results"]


@dataclass(frozen=True)
class Network:
    """What was counted, timed and checked on the first seed's network of one arm."""

    mode: str
    wide: dict[str, int]
    folded: dict[str, int]
    wide_latency: Latency
    folded_latency: Latency
    onnx: dict[str, Any]
    kernels: KernelView | None


@dataclass(frozen=True)
class Results:
    """The runs of a demo by (arm, seed), the networks by arm, and how it was called."""

    arms: list[str]
    seeds: int
    settings: Settings
    runs: dict[tuple[str, int], dict[str, Any]]
    networks: dict[str, Network]
    control_latency: Latency
    latency_batch: int
    command: str
    versions: dict[str, str]
    workers: int

    @property
    def blocks(self) -> list[str]:
        return [arm for arm in self.arms if is_block(arm)]

    @property
    def others(self) -> list[str]:
        """Every arm but plain: what is compared with it."""
        return [arm for arm in self.arms if arm != PLAIN]

    @property
    def test_images(self) -> int:
        return int(self.runs[PLAIN, 0]["test_images"])

    @property
    def early_epochs(self) -> int:
        """How many epochs count as the beginning: a quarter, at least one."""
        return max(1, self.settings.recipe.epochs // 4)

    def of(self, arm: str) -> list[dict[str, Any]]:
        """The runs of an arm in the order of their seeds."""
        return [self.runs[arm, seed] for seed in range(self.seeds)]

    def errors(self, arm: str) -> list[float]:
        """Test error in per cent of each folded network of an arm."""
        return [100 * run["wrong_folded"] / run["test_images"] for run in self.of(arm)]

    def early_losses(self, arm: str) -> list[float]:
        """Mean training loss of the first epochs, per seed."""
        first = self.early_epochs
        return [sum(epoch["train_loss"] for epoch in run["epochs"][:first]) / first for run in self.of(arm)]

    def error_spread(self, arm: str) -> Spread:
        return spread(self.errors(arm))

    @cached_property
    def error_against_plain(self) -> dict[str, Paired]:
        """Test error minus plain's, in points, per arm."""
        return adjusted({arm: compare(self.errors(arm), self.errors(PLAIN)) for arm in self.others})

    @cached_property
    def early_against_plain(self) -> dict[str, Paired]:
        """Early training loss minus plain's, per arm."""
        return adjusted({arm: compare(self.early_losses(arm), self.early_losses(PLAIN)) for arm in self.others})

    @cached_property
    def early_against_control(self) -> dict[str, Paired]:
        """Early training loss minus the control's, per block."""
        control = self.early_losses(CONTROL)
        return adjusted({arm: compare(self.early_losses(arm), control) for arm in self.blocks})

    @property
    def certificates(self) -> list[dict[str, Any]]:
        """Of every fold."""
        return [run["certificate"] for run in self.runs.values()]

    @property
    def starts(self) -> list[dict[str, Any]]:
        """Of every expansion, before training."""
        return [run["start"] for run in self.runs.values() if "start" in run]

    @property
    def changed_predictions(self) -> int:
        """Test images to which some folded network gives another class than its wide one."""
        return sum(run["changed_predictions"] for run in self.runs.values())

    @property
    def onnx_differing(self) -> int:
        """Predictions of ONNX Runtime that are not PyTorch's, over all arms and batch sizes."""
        return sum(sum(network.onnx["differing"].values()) for network in self.networks.values())

    @property
    def all_equal(self) -> bool:
        """Whether everything that was to stay the same did."""
        equal = all(certificate["equal"] for certificate in self.certificates + self.starts)
        return equal and self.onnx_differing == 0

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain data, without the learning curves, which are in the log."""
        return {
            "command": self.command,
            "versions": self.versions,
            "settings": asdict(self.settings),
            "seeds": self.seeds,
            "all_equal": self.all_equal,
            "worst_fold": max(self.certificates, key=lambda c: c["error"] / c["bound"]),
            "changed_predictions": self.changed_predictions,
            "test_error_percent": {arm: self.errors(arm) for arm in self.arms},
            "test_error_against_plain": {arm: asdict(pair) for arm, pair in self.error_against_plain.items()},
            "early_loss_against_plain": {arm: asdict(pair) for arm, pair in self.early_against_plain.items()},
            "early_loss_against_control": {arm: asdict(pair) for arm, pair in self.early_against_control.items()},
            "networks": {arm: asdict(network) for arm, network in self.networks.items()},
            "latency_control": asdict(self.control_latency),
        }
