"""Everything that decides the weights of a training, in one frozen place."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convfold.errors import InvalidArgument

__all__ = ["AUGMENTATIONS", "KERNEL_MODES", "OPTIMISERS", "PRECISIONS", "Settings", "differences"]

# Optimiser -> learning rate and weight decay where none is given.
OPTIMISERS = {"sgd": (0.05, 1e-4), "adamw": (1e-3, 0.05)}
PRECISIONS = ("fp32", "bf16", "fp16")
AUGMENTATIONS = ("auto", "none", "shift", "crop")
KERNEL_MODES = ("auto", "feature", "kernel")
BAD_PICTURES = ("fail", "skip")
# Of SGD; the betas of AdamW are torch's own, 0.9 and 0.999.
MOMENTUM = 0.9

_NAMED = {
    "optimiser": tuple(OPTIMISERS),
    "precision": PRECISIONS,
    "augment": AUGMENTATIONS,
    "kernel_mode": KERNEL_MODES,
    "bad_pictures": BAD_PICTURES,
}
_LEAST = {"epochs": 1, "batch_size": 1, "accumulate": 1, "warmup_epochs": 0, "size": 1, "weight_decay": 0}
# What torch's generators take, and numpy's, that splits the digits.
_SEEDS = {"seed": 2**63 - 1, "split_seed": 2**32 - 1}


@dataclass(frozen=True)
class Settings:
    """One training. Equal settings on equal data give equal weights, bit for bit, on one kind of machine.

    data: "digits", or a folder of ``class/name.png``. model: ``timm:NAME``, ``torchvision:NAME`` or
    ``package.module:factory``, called with ``num_classes=``. expand: a block's name or a ``recipe.toml``. weights: a
    ``.safetensors`` file of the plain model, with `new_head` also one whose head is for other classes.

    batch_size: images per step of the optimiser, over all processes and all `accumulate` parts that a step is
    computed in. learning_rate, weight_decay: None is the optimiser's own in OPTIMISERS; decay is on kernels alone.
    ema: decay of the running average of weights that is shipped in place of the last ones, 0 for none.
    precision: "fp32", "bf16" (autocast), "fp16" (autocast and a gradient scaler; CUDA).

    augment: "none", "shift" (padded by an eighth and cut), "crop" (a random part of 25 to 100 % of the area), "auto";
    flip: left and right at random; None: with "shift" and "crop". size: height and width that images are given, None
    is their own where all are of one size no larger than the model's, else the model's. channels: 1 or 3, None is as
    the pictures are. test_fraction: what is held out where the data has no test part of its own, None is 0.5 for the
    digits and 0.2 for a folder, chosen by split_seed. bad_pictures: "fail" or "skip".

    Raises InvalidArgument for impossible values.
    """

    data: str
    model: str
    epochs: int
    seed: int = 0
    expand: str | None = None
    weights: str | None = None
    new_head: bool = False
    batch_size: int = 64
    accumulate: int = 1
    optimiser: str = "sgd"
    learning_rate: float | None = None
    weight_decay: float | None = None
    warmup_epochs: float = 1.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    precision: str = "fp32"
    channels_last: bool = False
    kernel_mode: str = "auto"
    augment: str = "auto"
    flip: bool | None = None
    size: int | None = None
    channels: int | None = None
    test_fraction: float | None = None
    split_seed: int = 0
    bad_pictures: str = "fail"

    def __post_init__(self) -> None:
        for name, known in _NAMED.items():
            if getattr(self, name) not in known:
                raise _impossible(name, getattr(self, name), f"one of {', '.join(known)}")
        for name, least in (_LEAST | dict.fromkeys(_SEEDS, 0)).items():
            value = getattr(self, name)
            if value is not None and not least <= value < float("inf"):
                raise _impossible(name, value, f"{least} or more")
        for name, most in _SEEDS.items():
            if getattr(self, name) > most:
                raise _impossible(name, getattr(self, name), f"{most} or less")
        if self.learning_rate is not None and not 0 < self.learning_rate < float("inf"):
            raise _impossible("learning_rate", self.learning_rate, "a number above 0")
        for name in ("ema", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise _impossible(name, getattr(self, name), "0 <= value < 1")
        if self.test_fraction is not None and not 0 < self.test_fraction < 1:
            raise _impossible("test_fraction", self.test_fraction, "0 < fraction < 1")
        if self.channels not in (None, 1, 3):
            raise _impossible("channels", self.channels, "1 (grey) or 3 (colours)")

    @property
    def rate(self) -> float:
        """The learning rate at its highest."""
        return OPTIMISERS[self.optimiser][0] if self.learning_rate is None else self.learning_rate

    @property
    def decay(self) -> float:
        """The weight decay of kernels."""
        return OPTIMISERS[self.optimiser][1] if self.weight_decay is None else self.weight_decay

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON, without the places of files: what decides is their content."""
        resolved = {"learning_rate": self.rate, "weight_decay": self.decay}
        places = ("data", "expand", "weights")
        return {name: value for name, value in (dataclasses.asdict(self) | resolved).items() if name not in places}


def _impossible(name: str, value: object, expected: str) -> InvalidArgument:
    return InvalidArgument(
        f"{name.replace('_', ' ')} is impossible",
        where=f"--{name.replace('_', '-')}",
        got=repr(value) if isinstance(value, str) else value,
        expected=expected,
    )


def differences(begun: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """``name old -> new`` for everything that is not the same, in the order of `asked`."""
    names = [*asked, *(name for name in begun if name not in asked)]
    nothing = "nothing"
    return [
        f"{name.replace('_', ' ')} {begun.get(name, nothing)} -> {asked.get(name, nothing)}"
        for name in names
        if name not in begun or name not in asked or begun[name] != asked[name]
    ]
