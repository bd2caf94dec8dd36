"""Inputs to fit a decomposition to, by name: the digits, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from convfold.errors import FileProblem, InvalidArgument
from convfold.train import digits
from convfold.train.picture_file import SUFFIXES, WHITE, picture_files, pixels, read_picture
from convfold.zoo import normalisation

__all__ = ["folder_pictures", "named_inputs"]


def named_inputs(name: str, model: nn.Module, known: object, most: int = 256) -> Tensor:
    """At most `most` inputs (N, C, H, W) for `model`: "digits", scikit-learn's training half, or a folder's pictures.

    Pictures get the size of the example input `known`, and the mean and deviation that the model says it was trained
    with (timm's do), else those of ImageNet. Raises InvalidArgument where the size is not known, FileProblem for a
    folder without pictures.
    """
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    if name == "digits":
        return digits().train_x[:most].to(like)
    example = known[0] if isinstance(known, tuple) and known else known
    if not isinstance(example, Tensor) or example.dim() != 4:
        raise InvalidArgument("pictures need a size", where="--input", expected="a shape as 1x3x224x224")
    return folder_pictures(Path(name), tuple(example.shape[1:]), *normalisation(model), most).to(like)


def folder_pictures(
    folder: Path, shape: tuple[int, ...], mean: Sequence[float], std: Sequence[float], most: int
) -> Tensor:
    """The pictures below `folder`, in the order of their names, cut to the middle and scaled to (C, H, W).

    With one channel they are grey, with the mean of `mean` and of `std`. Needs Pillow. Raises FileProblem where there
    is no folder or no picture in it, InvalidArgument for other numbers of channels than 1 and 3.
    """
    from PIL import ImageOps  # noqa: PLC0415

    channels, height, width = shape
    if channels not in (1, 3):
        raise InvalidArgument("a picture has 1 or 3 channels", where="--data", got=f"{channels} in the model's input")
    files = picture_files(folder)[:most]
    if not files:
        raise FileProblem("there is no picture in it", where=str(folder), expected=", ".join(sorted(SUFFIXES)))
    centre, spread = torch.tensor(mean).reshape(-1, 1, 1), torch.tensor(std).reshape(-1, 1, 1)
    if channels == 1:
        centre, spread = centre.mean(0, keepdim=True), spread.mean(0, keepdim=True)
    fitted = (pixels(ImageOps.fit(read_picture(file, channels), (width, height))) for file in files)
    return torch.stack([(values / WHITE - centre) / spread for values in fitted])
