"""One picture file as pixels, read with Pillow; and the pictures below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convfold.errors import FileProblem
from convfold.zoo.quiet import quiet

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SUFFIXES", "WHITE", "decode", "picture_files", "pixels", "read_picture"]

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
# The value of a white pixel.
WHITE = 255


def picture_files(folder: Path) -> list[Path]:
    """The files below `folder` that are named as pictures, in order; hidden ones and those in hidden folders are not.

    A link to nothing is one of them, to be named among those that cannot be read. Raises FileProblem where there is no
    such folder.
    """
    if not folder.is_dir():
        raise FileProblem("there is no such folder of pictures", where=str(folder), expected="a folder, or digits")
    named = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    found = (path for path in named if path.is_file() or (path.is_symlink() and not path.exists()))
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def read_picture(file: Path, channels: int | None = None) -> Image:
    """The whole picture, upright, in 8 bits: grey (1 channel) or RGB (3); without `channels` as the file has it.

    The first frame of several; transparency is dropped. Needs Pillow. Raises FileProblem for a file that is no picture
    or does not reach to its end. For one thread: in several, `decode` inside of one `quiet`.
    """
    # Pillow warns of odd metadata, and of sizes that it then reads all the same.
    with quiet():
        return decode(file, channels)


def decode(file: Path, channels: int | None = None) -> Image:
    """As `read_picture`, with Pillow's warnings: of several threads, none can silence them for itself alone."""
    from PIL import Image, ImageOps  # noqa: PLC0415

    try:
        with Image.open(file) as opened:
            opened.load()
            grey = opened.mode in ("1", "L", "LA", "F") or opened.mode.startswith("I")
            picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I"):
                # Pillow would cut 16 bits off at 255 instead of scaling them.
                picture = picture.convert("F").point(lambda value: value * (WHITE / 65535))
            return picture.convert("L" if (grey if channels is None else channels == 1) else "RGB")
    except Exception as error:  # Pillow raises many kinds for files that are damaged
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileProblem(f"this is no picture that can be read ({reason})", where=str(file)) from error


def pixels(picture: Image) -> Tensor:
    """The picture (grey or RGB in 8 bits) as a uint8 tensor (C, H, W)."""
    channels = len(picture.getbands())
    flat = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return flat.reshape(picture.height, picture.width, channels).permute(2, 0, 1).contiguous()
