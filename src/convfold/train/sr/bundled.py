"""Photographs that come inside scikit-learn and scikit-image: nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from torch import Tensor

from convfold.errors import FileProblem
from convfold.train.sr.pictures import Picture, Pictures, check_channels, read

__all__ = ["CREDITS", "Credit", "bundled"]


@dataclass(frozen=True)
class Credit:
    """Where a picture is inside an installed package, which `part` it belongs to, and whose it is."""

    package: str
    file: str
    part: str
    credit: str
    colour: bool = True

    @property
    def name(self) -> str:
        return self.file.rpartition("/")[2].partition(".")[0]


def _skimage(file: str, part: str, credit: str, colour: bool = True) -> Credit:
    return Credit("skimage", f"data/{file}", part, credit, colour)


def _sklearn(file: str, part: str, credit: str) -> Credit:
    return Credit("sklearn", f"datasets/images/{file}", part, credit)


# As the packages' own notes say. Whole pictures are held out, so that no scene is on both sides.
CREDITS: tuple[Credit, ...] = (
    _skimage("astronaut.png", "train", "NASA Great Images; public domain"),
    _skimage("brick.png", "train", "CC0Textures; CC0", colour=False),
    _sklearn("china.jpg", "train", "danielbuechele, flickr; CC BY 2.0"),
    _skimage("coins.png", "train", "Brooklyn Museum; no known copyright restrictions", colour=False),
    _skimage("grass.png", "train", "linolafett, DeviantArt; CC0", colour=False),
    _skimage("gravel.png", "train", "CC0Textures; CC0", colour=False),
    _skimage("rocket.jpg", "train", "SpaceX; public domain"),
    _skimage("coffee.png", "validate", "Rachel Michetti, Pikolo Espresso Bar; CC0"),
    _skimage("camera.png", "test", "Lav Varshney; CC0", colour=False),
    _skimage("chelsea.png", "test", "Stefan van der Walt; CC0"),
    _sklearn("flower.jpg", "test", "vultilion, flickr; CC BY 2.0"),
)


def bundled(channels: int = 1) -> Pictures:
    """Eleven photographs as luminance, or the six in colour as RGB with ``channels=3``; `CREDITS` says whose.

    Seven train (three in colour), one decides, three are held out (two in colour): by picture, so that no scene is
    on both sides. Needs scikit-learn, scikit-image and Pillow. Raises InvalidArgument for `channels`, FileProblem
    where an installed package has a picture no more.
    """
    check_channels(channels)
    parts: dict[str, list[Picture]] = {"train": [], "validate": [], "test": []}
    for credit in CREDITS:
        if credit.colour or channels == 1:
            parts[credit.part].append(Picture(credit.name, _read(credit, channels)))
    return Pictures(tuple(parts["train"]), tuple(parts["validate"]), tuple(parts["test"]))


def _read(credit: Credit, channels: int) -> Tensor:
    try:
        found = files(credit.package) / credit.file
    except ModuleNotFoundError as error:
        raise FileProblem(
            f"the photographs inside {credit.package} are not here: it is not installed",
            where=credit.name,
            hint="pip install 'convfold[train]' brings it; or name a folder of pictures.",
        ) from error
    if not found.is_file():
        raise FileProblem(
            f"this version of {credit.package} has no such photograph inside",
            where=credit.file,
            hint="Install another version, or name a folder of pictures.",
        )
    return read(Path(str(found)), channels)
