"""A picture file enlarged: its luminance by a network, its colours and transparency by a cubic."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convfold.errors import FileProblem, InvalidArgument
from convfold.files import atomic_path
from convfold.train.picture_file import WHITE, pixels, read_picture
from convfold.train.sr.colour import joined, parted
from convfold.train.sr.enlarge import Enlarger
from convfold.train.sr.network import Bicubic

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Opened", "check_form", "enlarged", "open_picture", "save_picture"]

# What Pillow writes, and whether that can be transparent.
_FORMS = {".png": True, ".webp": True, ".tif": True, ".tiff": True, ".jpg": False, ".jpeg": False, ".bmp": False}
# A profile describes the bands of the file: that of inks (CMYK), say, is none for the RGB that they are read as.
_PROFILED = ("L", "LA", "P", "PA", "RGB", "RGBA")


@dataclass(frozen=True)
class Opened:
    """A picture (C, H, W) in [0, 1], C 1 for a grey one and 3 for colours; its alpha (1, H, W); its colour profile."""

    values: Tensor
    alpha: Tensor | None
    profile: bytes | None


def open_picture(path: str | os.PathLike[str]) -> Opened:
    """Read a picture file, upright. Needs Pillow. Raises FileProblem where there is none, or it cannot be read."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    file = Path(path)
    if not file.is_file():
        raise FileProblem("there is no such picture", where=str(path))
    values = pixels(read_picture(file)) / WHITE
    with Image.open(file) as again:
        profile = again.info.get("icc_profile") if again.mode in _PROFILED else None
        alpha = None
        if "A" in again.getbands() or "transparency" in again.info:
            turned: Any = ImageOps.exif_transpose(again)
            alpha = pixels(turned.convert("RGBA").getchannel("A")) / WHITE
    return Opened(values, alpha, profile)


def enlarged(picture: Opened, enlarger: Enlarger, tile: int | None = None) -> Opened:
    """``Y`` by the network, clipped to [0, 1]; R - Y, B - Y and alpha by `Bicubic`. In tiles of at most `tile`."""
    bicubic = Bicubic(enlarger.scale)
    grey = picture.values.shape[0] == 1
    y, differences = (picture.values, None) if grey else parted(picture.values)
    large = enlarger(y[None], tile)[0].clamp(0, 1)
    if differences is not None:
        large = joined(large, bicubic(differences[None])[0]).clamp(0, 1)
    alpha = None if picture.alpha is None else bicubic(picture.alpha[None])[0].clamp(0, 1)
    return Opened(large, alpha, picture.profile)


def check_form(path: str | os.PathLike[str], alpha: bool) -> None:
    """Raise InvalidArgument for a name whose suffix Pillow does not write, or that cannot be transparent."""
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMS:
        raise InvalidArgument(
            "a picture is not written in this form",
            where="--out",
            got=repr(Path(path).name),
            expected=", ".join(_FORMS),
        )
    if alpha and not _FORMS[suffix]:
        raise InvalidArgument(
            "the picture is partly transparent, which this form cannot hold",
            where="--out",
            got=repr(suffix),
            expected=", ".join(form for form, transparent in _FORMS.items() if transparent),
        )


def save_picture(picture: Opened, path: str | os.PathLike[str]) -> None:
    """Write it in 8 bits as the suffix says, whole or not at all.

    Raises FileProblem, also for a picture larger than the form holds, and as `check_form`.
    """
    check_form(path, picture.alpha is not None)
    bands = [picture.values] if picture.alpha is None else [picture.values, picture.alpha]
    options: dict[str, Any] = {} if picture.profile is None else {"icc_profile": picture.profile}
    if Path(path).suffix.lower() in (".jpg", ".jpeg", ".webp"):
        options["quality"] = 95
    with atomic_path(path) as beside:
        try:
            _image(torch.cat(bands)).save(beside, **options)
        except ValueError as error:  # WebP's encoder; the others raise OSError
            raise FileProblem(f"this picture cannot be written so ({error})", where=str(path)) from error


def _image(values: Tensor) -> Image:
    from PIL import Image  # noqa: PLC0415

    bytes_of = (values * WHITE).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    height, width, bands = bytes_of.shape
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[bands]
    return Image.frombytes(mode, (width, height), bytes_of.numpy().tobytes())
