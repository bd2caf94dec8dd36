"""The jobs of ``convfold compare depth``: a chain on one problem at every rate, and one training of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from convfold.errors import ConvfoldError
from convfold.studies.compare.contest import ContestJob, Run
from convfold.studies.compare.contest_data import parted_digits
from convfold.studies.compare.contest_networks import mean_loss
from convfold.studies.compare.depth.arms import Settings
from convfold.studies.compare.depth.chain import gain
from convfold.studies.compare.depth.descent import Descent, descend, recorded
from convfold.studies.compare.depth.flow import Flow, flow, largest_rate
from convfold.studies.compare.depth.network import network
from convfold.studies.compare.depth.problems import TASKS, Classification, Problem, Regression
from convfold.train import Data, Epoch, count_wrong, train
from convfold.transform import fold

__all__ = ["EARLY", "NetworkJob", "SweepJob", "levels", "shared_rate"]

# The share of the initial loss to which runs that start equally fast are timed: small steps take too long for less.
EARLY = 0.3
# Large steps are faster than the flow.
LONGER = 1.5


def levels(task: str) -> tuple[float, ...]:
    """The losses at which steps are counted, in the initial one; the last is where a run counts as done."""
    return (EARLY, TASKS[task].level)


def _round(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


@dataclass(frozen=True)
class SweepJob:
    """Descend one chain on one problem at all learning rates; then at two of them, beside what theory predicts.

    The two are the best rate, which reaches the task's level in the fewest steps, and the one that takes the share
    `Settings.share` from the loss in the first step, to first order: so at every depth it falls equally at first.
    """

    task: str
    arm: str
    seed: int
    settings: Settings
    tuning: bool = False

    @property
    def name(self) -> str:
        return f"{self.task}/{self.arm}/sweep"

    @property
    def depth(self) -> int:
        return int(self.arm.removeprefix("depth"))

    def __str__(self) -> str:
        return f"descending {self.name}, seed {self.seed}"

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        """The result to log. With `tuning` only what the sweep found."""
        problem, rates = TASKS[self.task].problem(self.seed), self.settings.rates
        steps, level = self.settings.steps_of(self.task), TASKS[self.task].level
        swept = descend(problem, self.depth, rates, steps)
        counts = [swept.settled(level, index) for index in range(len(rates))]
        final = [_round(swept.last(index)) for index in range(len(rates))]
        found: dict[str, Any] = {"steps": counts, "final": final}
        if self.tuning:
            return found
        best = rates[_best(counts, final)]
        first, gradient = problem.loss_and_gradient(problem.start)
        gained = gain(problem.start, gradient, self.depth)
        equal = self.settings.share * float(first) / (gained * float(gradient.square().sum()))
        found |= {"initial_loss": float(first), "gain": gained, "best_rate": best, "equal_rate": equal}
        if isinstance(problem, Regression) and problem.p == 2:
            found["limit"] = largest_rate(problem, self.depth)
        records = recorded(self.settings.traced_steps)
        traced = descend(problem, self.depth, (equal, best), records[-1], keep=records)
        predicted = None
        if self.seed < self.settings.predicted_seeds:
            predicted = self._predicted(problem, traced, (equal, best), float(first))
        for index, part in enumerate(("equal", "best")):
            found[part] = self._trace(problem, traced, index, records)
            if predicted is not None:
                rate = (equal, best)[index]
                found[part]["predicted"] = _against(problem, predicted, traced, index, rate, records, float(first))
        return found

    def _trace(self, problem: Problem, traced: Descent, index: int, records: list[int]) -> dict[str, Any]:
        relative = traced.losses[:, index] / traced.losses[0, index]
        kept: dict[str, Any] = {
            "reached": [traced.settled(level, index) for level in levels(self.task)],
            "curve": [_round(float(relative[step])) for step in records],
            "imbalance": _round(traced.imbalance[index]),
        }
        if isinstance(problem, Classification):
            assert traced.maps is not None
            kept |= {"wrong": problem.wrong(traced.maps[-1, index]), "test_images": len(problem.test_labels)}
        return kept

    def _predicted(self, problem: Problem, traced: Descent, rates: tuple[float, ...], first: float) -> Flow:
        """The flow for rather longer than either of the runs takes to be done."""
        level, total = TASKS[self.task].level, len(traced.losses) - 1
        taken = [traced.settled(level, index) for index in range(len(rates))]
        until = LONGER * max(
            rate * (total if count is None else count) for rate, count in zip(rates, taken, strict=True)
        )
        return flow(problem, self.depth, until, [share * first for share in levels(self.task)])


def _best(steps: list[int | None], final: list[float | None]) -> int:
    """Of the rates the one that is done first; where none is, the one with the least loss; the lower of equals."""
    infinite = math.inf

    def rank(index: int) -> tuple[float, float, int]:
        count, loss = steps[index], final[index]
        return infinite if count is None else count, infinite if loss is None else loss, index

    return min(range(len(steps)), key=rank)


def _against(
    problem: Problem, predicted: Flow, traced: Descent, index: int, rate: float, records: list[int], first: float
) -> dict[str, Any]:
    """What the flow says of a run at `rate`: steps to each level, the curve, and how far the run's maps are off.

    `deviation` is ``max |W_k - W(rate k)| / max |W(rate k) - W_0|`` over the records within the flow's time.
    """
    assert traced.maps is not None
    inside = [(at, step) for at, step in enumerate(records) if step * rate <= predicted.end]
    maps = [predicted.map(step * rate) for _, step in inside]
    off = max(
        (float((traced.maps[at, index] - there).norm()) for (at, _), there in zip(inside, maps, strict=True)),
        default=0.0,
    )
    moved = max(float((there - problem.start).norm()) for there in [*maps, predicted.map(predicted.end)])
    return {
        "reached": [None if time is None else _round(time / rate) for time in predicted.crossings],
        "curve": [_round(float(problem.loss_and_gradient(there)[0]) / first) for there in maps],
        "deviation": _round(off / moved),
    }


@dataclass(frozen=True)
class NetworkJob(ContestJob[Run]):
    """Train one small CNN of linear chains on digits."""

    settings: Settings

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        """The result to log; a run that ranks is folded too, and the folded network is what is tested.

        One that diverges has its initial loss for its last one, and is tested as it was left: at chance.
        """
        data = parted_digits(self.what.tuning)
        model = network(self.what.arm, self.seed, self.settings.width)
        found: dict[str, Any] = {"initial_loss": mean_loss(model, data, train=True)}
        history: list[Epoch] = []
        try:
            train(model, data, self.settings.recipe(self.what.rate), self.seed, lambda _, epoch: history.append(epoch))
            loss = mean_loss(model, data, train=not self.what.tuning)
            # No loss of training has seen the last step.
            if not math.isfinite(loss):
                raise ConvfoldError("the loss is no longer finite", where=str(self), hint="Lower the learning rate.")
        except ConvfoldError as error:
            if self.what.tuning:
                return {**found, "validation_loss": None, "diverged": str(error)}
            found["diverged"] = str(error)
        if self.what.tuning:
            return {**found, "validation_loss": loss}
        return {
            **found,
            "train_loss": [epoch.train_loss for epoch in history],
            "test_error": [epoch.test_error for epoch in history],
            "test_images": len(data.test_y),
            **self._tested(model, data, found),
        }

    @staticmethod
    def _tested(model: nn.Module, data: Data, found: Mapping[str, Any]) -> dict[str, Any]:
        if "diverged" in found:
            return {"final_loss": found["initial_loss"], "wrong": count_wrong(model, data.test_x, data.test_y)}
        folded = fold(model.eval(), data.test_x[:1])
        with torch.no_grad():
            apart = float((folded(data.test_x) - model(data.test_x)).abs().max())
        return {
            "final_loss": mean_loss(model, data, train=True),
            "wrong": count_wrong(folded, data.test_x, data.test_y),
            "folded_apart": apart,
            "folded_parameters": sum(parameter.numel() for parameter in folded.parameters()),
        }


def shared_rate(found: Mapping[int, Mapping[str, Any]], rates: tuple[float, ...], budget: int) -> int:
    """One rate for all problems of a task, from the sweeps of other seeds, by index.

    The rate at which the most of them are done, of these the one with the least mean log of steps, then the lower.
    """

    def rank(index: int) -> tuple[int, float, int]:
        counts = [sweep["steps"][index] for sweep in found.values()]
        missed = sum(count is None for count in counts)
        return missed, math.fsum(math.log(max(budget if c is None else c, 1)) for c in counts), index

    return min(range(len(rates)), key=rank)
