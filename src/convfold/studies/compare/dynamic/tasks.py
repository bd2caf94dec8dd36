"""The tasks of ``convfold compare dynamic``: digits, and digits of which a fair coin inverts each."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from convfold.studies.compare.contest_data import parted_digits
from convfold.train import Data

__all__ = ["TASKS", "dataset", "inverted"]

TASKS = ("digits", "inverted")
# Keeps the coin's stream apart from the order's and the weights', which are seeded with the seed itself.
_COIN = 7919


def inverted(images: Tensor, low: float, high: float) -> Tensor:
    """Ink for paper: ``low + high - x``, where pixels lie in [low, high]."""
    return low + high - images


def dataset(task: str, seed: int, tuning: bool = False) -> Data:
    """The images of a task for one seed; with `tuning` the test part is taken from the training half.

    For "inverted" the coins of training images come from `seed`, the same for every arm. The test part holds each
    image both ways, first all as they are and then all inverted: its error is the expectation over the coins.
    """
    data = parted_digits(tuning)
    if task == "digits":
        return data
    low, high = float(data.train_x.min()), float(data.train_x.max())
    coins = torch.rand(len(data.train_x), generator=torch.Generator().manual_seed(_COIN + seed)) < 0.5
    train = torch.where(coins[:, None, None, None], inverted(data.train_x, low, high), data.train_x)
    test = torch.cat([data.test_x, inverted(data.test_x, low, high)])
    name = f"{data.name}, inverted by a coin"
    return replace(data, name=name, train_x=train, test_x=test, test_y=torch.cat([data.test_y, data.test_y]))
