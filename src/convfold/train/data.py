"""Images with their labels, split once into a training half and a test half."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, as_tensor, float32, int64

from convfold.errors import InvalidArgument

__all__ = ["Data", "digits", "split_digits"]


@dataclass(frozen=True)
class Data:
    """Images (N, C, H, W) in float32 and labels (N,) in int64, for training and for testing."""

    name: str
    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    num_classes: int

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits of every image and label: two data sets or splits never share it."""
        parts = (self.train_x, self.train_y, self.test_x, self.test_y)
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:12]


def split_digits(split_seed: int = 0, test_fraction: float = 0.5) -> tuple[Any, Any, Any, Any]:
    """scikit-learn's 1,797 digits as they are: rows of 64 greys from 0 to 16 (train, test), labels (train, test).

    Stratified (the same share of each digit in both parts), and made from `split_seed` alone. Needs scikit-learn.
    """
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415

    if not 0 < test_fraction < 1:
        raise InvalidArgument(
            "the test part must be a true part", where="test_fraction", got=test_fraction, expected="0 < f < 1"
        )
    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=test_fraction, random_state=split_seed, stratify=labels
    )
    return train_x, test_x, train_y, test_y


def digits(split_seed: int = 0, test_fraction: float = 0.5) -> Data:
    """scikit-learn's 1,797 handwritten digits, 8x8 and grey, scaled to mean 0 and variance 1.

    Split as `split_digits` does; mean and variance come from the training part. Needs scikit-learn.
    """
    train_x, test_x, train_y, test_y = split_digits(split_seed, test_fraction)
    mean, std = train_x.mean(), train_x.std()

    def image(rows: object) -> Tensor:
        return ((as_tensor(rows) - mean) / std).to(float32).reshape(-1, 1, 8, 8)

    return Data(
        "digits",
        image(train_x),
        as_tensor(train_y, dtype=int64),
        image(test_x),
        as_tensor(test_y, dtype=int64),
        num_classes=10,
    )
