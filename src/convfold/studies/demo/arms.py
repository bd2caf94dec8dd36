"""The arms of the demo, the settings of a run, and the job that makes one run."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from convfold.studies.runlog import made_with
from convfold.train import Data, Recipe, digits, plain_cnn, predictions, scale_gammas, train
from convfold.transform import expand, fold
from convfold.verify import verify

__all__ = ["CONTROL", "MARK", "PLAIN", "Settings", "TrainJob", "dataset", "is_block", "label", "start_network"]

PLAIN = "plain"
CONTROL = "plain-sqrt3"
# The sum of three equal, independent branches is sqrt(3) times as large as one of them.
CONTROL_GAMMA = math.sqrt(3)
# The key of a weight file's metadata that says which run it belongs to.
MARK = "convfold-demo"
# How many test images `verify` compares on, besides the probes it makes itself.
VERIFY_BATCH = 32


@dataclass(frozen=True)
class Settings:
    """What decides every run of a demo, besides its arm and seed."""

    recipe: Recipe
    width: int = 16

    def of(self, arm: str) -> dict[str, Any]:
        """All that the result of `arm` depends on, as logged with it: other settings, another result."""
        return {
            **asdict(self.recipe),
            "width": self.width,
            "gamma": CONTROL_GAMMA if arm == CONTROL else 1.0,
            "data": dataset().fingerprint,
            **made_with(),
        }

    def mark(self, arm: str, seed: int) -> str:
        """A short text that differs whenever a run's settings, arm or seed do; written into its files."""
        content = json.dumps([arm, seed, self.of(arm)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def label(arm: str) -> str:
    """An arm's name for people."""
    return "plain, γ = √3" if arm == CONTROL else arm


def is_block(arm: str) -> bool:
    """Whether an arm is a block's, rather than plain or its control."""
    return arm not in (PLAIN, CONTROL)


@lru_cache(maxsize=1)
def dataset() -> Data:
    """The digits, read once per process."""
    return digits()


def start_network(arm: str, seed: int, width: int) -> tuple[nn.Module, nn.Module]:
    """The plain network of a seed and the arm's network made from it, before training.

    Every arm of a seed starts from the same weights; a block's own extra weights come after them in the
    same stream of random numbers.
    """
    data = dataset()
    torch.manual_seed(seed)
    plain = plain_cnn(data.num_classes, width)
    if arm == CONTROL:
        torch.manual_seed(seed)
        return plain, scale_gammas(plain_cnn(data.num_classes, width), CONTROL_GAMMA)
    if arm == PLAIN:
        return plain, plain
    return plain, expand(plain, arm, example_inputs=data.test_x[:2])


@dataclass(frozen=True)
class TrainJob:
    """Train one arm with one seed, fold it, verify the fold and count its wrong predictions."""

    arm: str
    seed: int
    settings: Settings
    keep_weights: bool

    def __str__(self) -> str:
        return f"training {self.arm}, seed {self.seed}"

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        """Returns the result to log, and under "weights" two safetensors contents where they are kept."""
        data = dataset()
        began = time.process_time()
        plain, wide = start_network(self.arm, self.seed, self.settings.width)
        result: dict[str, Any] = {}
        if is_block(self.arm):
            # Before training, the expanded network must still be the plain one.
            result["start"] = verify(plain, wide, data.test_x[:VERIFY_BATCH]).to_dict()
        history = train(wide, data, self.settings.recipe, self.seed, lambda index, _: tell(index + 1))
        folded = fold(wide, data.test_x[:2])
        certificate = verify(wide, folded, data.test_x[:VERIFY_BATCH])
        before, after = predictions(wide, data.test_x), predictions(folded, data.test_x)
        result |= {
            "epochs": [asdict(epoch) for epoch in history],
            "certificate": certificate.to_dict(),
            "wrong_wide": int((before != data.test_y).sum()),
            "wrong_folded": int((after != data.test_y).sum()),
            "changed_predictions": int((before != after).sum()),
            "test_images": len(data.test_y),
            "cpu_seconds": time.process_time() - began,
        }
        if self.keep_weights:
            mark = {MARK: self.settings.mark(self.arm, self.seed)}
            result["weights"] = {"wide": _content(wide, mark), "folded": _content(folded, mark)}
        return result


def _content(model: nn.Module, mark: dict[str, str]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, mark)
