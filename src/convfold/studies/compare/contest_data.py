"""The digits of a comparison: one half tests only; for tuning, the other half is parted again."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import torch

from convfold.train import Data, digits

__all__ = ["parted_digits"]

# Of the training half, what decides the learning rate; the test half decides nothing.
_VALIDATION = 0.25


@lru_cache(maxsize=2)
def parted_digits(tuning: bool) -> Data:
    """The digits as they are, or, for tuning, the training half parted into one to train on and one to decide."""
    data = digits()
    if not tuning:
        return data
    order = torch.randperm(len(data.train_x), generator=torch.Generator().manual_seed(0))
    held = int(_VALIDATION * len(order))
    test, train = order[:held], order[held:]
    x, y = data.train_x, data.train_y
    return replace(data, name="digits, tuning", train_x=x[train], train_y=y[train], test_x=x[test], test_y=y[test])
