"""A small, plain training loop: data, one network, one recipe for all."""

from __future__ import annotations

from convfold.train.data import Data, digits
from convfold.train.loop import Epoch, Recipe, count_wrong, predictions, train
from convfold.train.model import plain_cnn, scale_gammas

__all__ = [
    "Data",
    "Epoch",
    "Recipe",
    "count_wrong",
    "digits",
    "plain_cnn",
    "predictions",
    "scale_gammas",
    "train",
]
