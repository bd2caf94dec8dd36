"""Training: a session for images of any kind, and the small, plain loop of the studies.

``Session(Settings(...), out).train()``, then ``finish``, is what ``convfold train`` does. `train` with a `Recipe` is
the loop that studies compare networks by.
"""

from __future__ import annotations

from convfold.train.data import Data, digits
from convfold.train.distributed import World, open_world
from convfold.train.ending import Outcome, finish
from convfold.train.learner import EpochRecord
from convfold.train.loop import Epoch, Recipe, count_wrong, predictions, train
from convfold.train.model import plain_cnn, scale_gammas
from convfold.train.session import Session
from convfold.train.settings import Settings

__all__ = [
    "Data",
    "Epoch",
    "EpochRecord",
    "Outcome",
    "Recipe",
    "Session",
    "Settings",
    "World",
    "count_wrong",
    "digits",
    "finish",
    "open_world",
    "plain_cnn",
    "predictions",
    "scale_gammas",
    "train",
]
