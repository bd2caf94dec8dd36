"""Pictures to learn enlarging from: a folder of the user's, parted so that what is tested on was never seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from convfold.errors import FileProblem, InvalidArgument
from convfold.train.picture_file import SUFFIXES, WHITE, picture_files, pixels, read_picture
from convfold.train.sr.colour import luminance

__all__ = ["BAD_PICTURES", "Picture", "Pictures", "check_channels", "from_folder", "part", "read"]

BAD_PICTURES = ("fail", "skip")
# Of the pictures, or of each one's columns where there are too few: trained on up to here, deciding up to here.
_SHARES = (0.6, 0.8)


@dataclass(frozen=True)
class Picture:
    """A picture (C, H, W) in float32, 0 to 1, and its name."""

    name: str
    tensor: Tensor


@dataclass(frozen=True)
class Pictures:
    """Pictures to train on, to decide by and held out; the names of files that were `skipped`, with the reason."""

    train: tuple[Picture, ...]
    validate: tuple[Picture, ...]
    test: tuple[Picture, ...]
    skipped: tuple[str, ...] = ()


def check_channels(channels: int) -> None:
    """Raise InvalidArgument for anything but luminance and colour."""
    if channels not in (1, 3):
        raise InvalidArgument(
            "a picture has 1 channel (luminance) or 3 (colour)", where="channels", got=channels, expected="1 or 3"
        )


def from_folder(
    path: str | os.PathLike[str], channels: int = 1, bad_pictures: str = "fail", least: int = 1
) -> Pictures:
    """The pictures below a folder, as luminance (`channels` = 1) or RGB (3); needs Pillow.

    In the order of their names the first 60 % train, the next 20 % decide, the last 20 % are held out: neighbours in
    name are most alike, so they stay in one part. Fewer than five pictures are parted by columns instead, each in
    the same shares. With ``bad_pictures="skip"`` a file that cannot be read, or has a side of fewer than `least`
    pixels, is left out and named in `skipped`.

    Raises FileProblem where there is no folder, no picture in it, one unreadable or too small, or none left;
    InvalidArgument for `channels` and `bad_pictures`.
    """
    check_channels(channels)
    if bad_pictures not in BAD_PICTURES:
        expected = " or ".join(BAD_PICTURES)
        raise InvalidArgument("this is no choice", where="--bad-pictures", got=repr(bad_pictures), expected=expected)
    folder = Path(path)
    files = picture_files(folder)
    if not files:
        suffixes = ", ".join(sorted(SUFFIXES))
        raise FileProblem("there is no picture in it", where=str(folder), expected=f"files of {suffixes}")
    pictures, skipped = [], []
    for file in files:
        try:
            pictures.append(Picture(file.relative_to(folder).as_posix(), _large(file, channels, least)))
        except FileProblem as error:
            if bad_pictures == "fail":
                raise
            skipped.append(str(error))
    if not pictures:
        raise FileProblem(f"none of its {len(files)} pictures can be used, first {skipped[0]}", where=str(folder))
    return part(pictures, tuple(skipped))


def _large(file: Path, channels: int, least: int) -> Tensor:
    values = read(file, channels)
    if min(values.shape[-2:]) < least:
        got = f"{values.shape[-2]}x{values.shape[-1]}"
        raise FileProblem(
            "this picture is smaller than a patch",
            where=str(file),
            got=got,
            expected=f"at least {least}x{least} pixels",
            hint="Take a smaller patch or larger pictures.",
        )
    return values


def read(file: Path, channels: int) -> Tensor:
    """A picture file (C, H, W) in [0, 1]: luminance, or the colours. Raises FileProblem."""
    colours = pixels(read_picture(file, 3))
    return luminance(colours.permute(1, 2, 0))[None] if channels == 1 else colours / WHITE


def part(pictures: Sequence[Picture], skipped: tuple[str, ...] = ()) -> Pictures:
    """By picture where there are five or more, else by columns; no pixel is in two parts."""
    if len(pictures) >= 5:
        first, second = (round(share * len(pictures)) for share in _SHARES)
        return Pictures(tuple(pictures[:first]), tuple(pictures[first:second]), tuple(pictures[second:]), skipped)
    parts = [tuple(_columns(picture, number) for picture in pictures) for number in range(3)]
    return Pictures(parts[0], parts[1], parts[2], skipped)


def _columns(picture: Picture, number: int) -> Picture:
    width = picture.tensor.shape[-1]
    edges = [0, *(int(share * width) for share in _SHARES), width]
    side = ("left", "middle", "right")[number]
    return Picture(f"{picture.name} ({side})", picture.tensor[..., edges[number] : edges[number + 1]].contiguous())
