"""One recipe for every super-resolution network: Adam, a cosine learning rate, random crops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convfold.errors import ConvfoldError, InvalidArgument
from convfold.train.seeds import generator
from convfold.train.sr.batch import check_sizes, draw
from convfold.train.sr.degrade import Degradation
from convfold.train.sr.pictures import Picture

__all__ = ["LOSSES", "Fit", "SrRecipe", "fit_sr"]

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "mse": F.mse_loss}


@dataclass(frozen=True)
class SrRecipe:
    """What decides a training run, besides the network, the pictures, the degradation and the seed.

    `steps` of Adam on `batch_size` crops of `patch` x `patch` pixels of the network's input; the learning rate falls
    from `learning_rate` to zero along half a cosine. `loss` is "l1", as in ECBSR and EDSR, or "mse".
    Raises InvalidArgument for impossible values.
    """

    steps: int = 2000
    batch_size: int = 16
    patch: int = 24
    learning_rate: float = 2e-3
    loss: str = "l1"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "patch"):
            if not isinstance(number := getattr(self, name), int) or number < 1:
                raise InvalidArgument("it takes at least one", where=name, got=number, expected="1 or more")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InvalidArgument("a learning rate is positive", where="learning_rate", got=self.learning_rate)
        if self.loss not in LOSSES:
            raise InvalidArgument(
                "there is no such loss", where="loss", got=repr(self.loss), expected=", ".join(LOSSES)
            )


@dataclass
class Fit:
    """A training run that can be stopped between any two steps: `advance` makes the next one.

    Everything drawn at random in step t comes from (seed, t) alone, so a run that goes on from `step`, `optimiser` and
    the model's weights gives the same weights, bit for bit on a CPU with one thread, as one that never stopped.
    """

    model: nn.Module
    pictures: Sequence[Picture]
    degradation: Degradation
    recipe: SrRecipe
    seed: int
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_sizes(self.pictures, self.size)
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimiser = torch.optim.Adam(self.trained, lr=self.recipe.learning_rate)

    @property
    def size(self) -> int:
        """The edge of a crop in pixels of the truth."""
        return self.recipe.patch * self.degradation.scale

    @property
    def step(self) -> int:
        """How many steps were made."""
        return len(self.losses)

    @property
    def done(self) -> bool:
        return self.step >= self.recipe.steps

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """What the network is given in that step, and what it should answer."""
        drawn = generator(self.seed, step)
        large = draw(self.pictures, self.size, self.recipe.batch_size, drawn)
        return self.degradation(large, drawn), large

    def advance(self) -> float:
        """Make one step and return its loss. Raises ConvfoldError, before any weight moves, for a loss not finite."""
        step = self.step
        place = next(self.model.parameters())
        small, large = (t.to(place) for t in self.batch(step))
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / self.recipe.steps))
        self.model.train()
        loss = LOSSES[self.recipe.loss](self.model(small), large)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ConvfoldError(
                "the loss is no longer finite",
                where=f"step {step + 1} of {self.recipe.steps}, seed {self.seed}",
                got=value,
                expected="a finite loss",
                hint="Lower the learning rate.",
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.losses.append(value)
        return value


def fit_sr(
    model: nn.Module,
    pictures: Sequence[Picture],
    degradation: Degradation,
    recipe: SrRecipe,
    seed: int,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train `model` in place on `pictures` (as ``bundled().train``) and return each step's loss; ends in eval mode.

    Crops, their turns, noise and moire come from `seed`, so two models trained with one seed see the same batches.
    `on_step(index, loss)` is called after each step. Raises InvalidArgument without pictures or with one smaller than a
    patch, ConvfoldError as soon as the loss is not finite: the weights are then those before that step.
    """
    run = Fit(model, pictures, degradation, recipe, seed)
    while not run.done:
        loss = run.advance()
        if on_step is not None:
            on_step(run.step - 1, loss)
    model.eval()
    return run.losses
