"""One loop and one recipe: SGD with momentum, a cosine learning rate, every step decided by the seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convfold.errors import ConvfoldError
from convfold.train.data import Data
from convfold.train.schedule import parameter_groups, rate
from convfold.transform.ship.program import evaluating

__all__ = ["Epoch", "Recipe", "count_wrong", "predictions", "train"]

EVAL_BATCH = 512


@dataclass(frozen=True)
class Recipe:
    """What decides a training run, besides the model, the data and the seed."""

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 1.0


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean loss and error on the batches trained on, error on the test part."""

    train_loss: float
    train_error: float
    test_error: float


def predictions(model: nn.Module, images: Tensor) -> Tensor:
    """The class that `model` gives each image, in eval mode; the mode is put back afterwards."""
    with evaluating(model), torch.no_grad():
        return torch.cat([model(batch).argmax(1) for batch in images.split(EVAL_BATCH)])


def count_wrong(model: nn.Module, images: Tensor, labels: Tensor) -> int:
    """How many of `images` the model gives another class than `labels`."""
    return int((predictions(model, images) != labels).sum())


def train(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    seed: int,
    on_epoch: Callable[[int, Epoch], None] | None = None,
) -> list[Epoch]:
    """Train `model` in place and return one Epoch each; leaves it in eval mode.

    The order of the images comes from `seed` through its own generator, so two models trained with one seed
    see the same batches, and one thread gives the same weights each time. `on_epoch(index, epoch)` is
    called after each. Raises ConvfoldError as soon as the loss is not finite.
    """
    shuffler = torch.Generator().manual_seed(seed)
    groups = parameter_groups(model, recipe.weight_decay)
    optimiser = torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    count = len(data.train_x)
    # A last batch of one image has no batch statistics, so the remainder is left for another epoch's order.
    steps = max(count // recipe.batch_size, 1)
    history = []
    for index in range(recipe.epochs):
        model.train()
        order = torch.randperm(count, generator=shuffler)
        total_loss, wrong, seen = 0.0, 0, 0
        for step in range(steps):
            batch = order[step * recipe.batch_size : (step + 1) * recipe.batch_size]
            images, labels = data.train_x[batch], data.train_y[batch]
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * rate(recipe.epochs, recipe.warmup_epochs, index + step / steps)
            optimiser.zero_grad(set_to_none=True)
            scores = model(images)
            loss = F.cross_entropy(scores, labels)
            loss.backward()
            optimiser.step()
            total_loss += loss.item() * len(batch)
            wrong += int((scores.argmax(1) != labels).sum())
            seen += len(batch)
        if not math.isfinite(total_loss):
            raise ConvfoldError(
                "the loss is no longer finite",
                where=f"epoch {index + 1}, seed {seed}",
                got=total_loss,
                expected="a finite loss",
                hint="Lower the learning rate.",
            )
        test_wrong = count_wrong(model, data.test_x, data.test_y)
        epoch = Epoch(total_loss / seen, wrong / seen, test_wrong / len(data.test_y))
        history.append(epoch)
        if on_epoch is not None:
            on_epoch(index, epoch)
    model.eval()
    return history
