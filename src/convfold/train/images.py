"""What a training reads: labelled images in a training and a test part, from memory or from files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from convfold.train.data import split_digits
from convfold.train.picture_file import WHITE, pixels, read_picture

__all__ = ["Images", "Part", "digit_images", "file_mark"]

# Digits go from 0 to 16.
_INK = 16
# Decoded pictures that a part keeps, so that small data sets are read once.
_KEPT_BYTES = 2**29


@dataclass
class Part:
    """Images with their labels (N,) in int64: `stored` pixels (N, C, H, W) in uint8, or `files` that are read."""

    labels: Tensor
    channels: int
    stored: Tensor | None = None
    files: tuple[Path, ...] = ()
    _kept: dict[int, Tensor] = field(default_factory=dict, repr=False)
    _bytes: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, index: int) -> Tensor:
        """The pixels of one image, uint8 (C, H, W). Raises FileProblem for a file that has become unreadable."""
        if self.stored is not None:
            return self.stored[index]
        if (kept := self._kept.get(index)) is not None:
            return kept
        found = pixels(read_picture(self.files[index], self.channels))
        # A reader beside the training ends with the epoch, and is asked for each picture once.
        if get_worker_info() is None and self._bytes + found.nbytes <= _KEPT_BYTES:
            self._kept[index] = found
            self._bytes += found.nbytes
        return found


@dataclass(frozen=True)
class Images:
    """A data set for classification.

    `white` is the value of a white pixel, `mean` and `std` what images in [0, 1] are scaled by, None for the model's
    own; `size` the height and width that all pictures share, or None. `left_out` names the pictures that could not be
    read. Two data sets or splits never share a `fingerprint`.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    test: Part
    white: int
    size: tuple[int, int] | None
    fingerprint: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    left_out: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        return self.train.channels

    @property
    def photographs(self) -> bool:
        """Whether the images are pictures of things, that may be mirrored and cut."""
        return self.white == WHITE

    def scaling(self, own: tuple[tuple[float, ...], tuple[float, ...]]) -> tuple[Tensor, Tensor]:
        """Mean and deviation (C, 1, 1) of images in [0, 1]: the data's, else `own`, for grey the mean over colours."""
        given = own if self.mean is None or self.std is None else (self.mean, self.std)
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in given)
        if len(mean) != self.channels:
            mean, std = (values.mean(0, keepdim=True).expand(self.channels, 1, 1) for values in (mean, std))
        return mean, std


def file_mark(path: str | os.PathLike[str]) -> str:
    """Twelve hex digits of a file's content."""
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:12]


def digit_images(split_seed: int = 0, test_fraction: float = 0.5) -> Images:
    """The digits of `convfold.train.digits`, as pixels."""
    train_x, test_x, train_y, test_y = split_digits(split_seed, test_fraction)

    def part(rows: object, labels: object) -> Part:
        stored = torch.as_tensor(rows).to(torch.uint8).reshape(-1, 1, 8, 8)
        return Part(torch.as_tensor(labels, dtype=torch.int64), 1, stored)

    train, test = part(train_x, train_y), part(test_x, test_y)
    content = b"".join(t.numpy().tobytes() for t in (train.stored, train.labels, test.stored, test.labels))  # type: ignore[union-attr]
    return Images(
        "digits",
        tuple(map(str, range(10))),
        train,
        test,
        _INK,
        (8, 8),
        hashlib.sha256(content).hexdigest()[:12],
        (float(train_x.mean()) / _INK,),
        (float(train_x.std()) / _INK,),
    )
