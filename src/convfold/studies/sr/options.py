"""How ``convfold train sr`` is called."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field

from convfold.studies.sr.runs import PLAIN
from convfold.train.sr import SrRecipe

__all__ = ["DEFAULT_FOLDER", "Options"]

DEFAULT_FOLDER = "convfold-sr"


@dataclass(frozen=True)
class Options:
    """How the study is called. Without a `scale` it is 2, or 1 where noise or moire is all there is to undo.

    `blocks` are trained beside the plain network; `rates` are learning rates, each tried by every arm; seeds are
    `seed`, `seed` + 1 and so on.
    """

    blocks: Sequence[str] = ("doconv",)
    scale: int | None = None
    degrade: str = "bicubic"
    recipe: SrRecipe = field(default_factory=SrRecipe)
    rates: Sequence[float] = (SrRecipe.learning_rate,)
    seed: int = 0
    seeds: int = 1
    width: int = 16
    depth: int = 4
    pictures: str | None = None
    bad_pictures: str = "fail"
    out: str | os.PathLike[str] = DEFAULT_FOLDER
    resume: bool = False
    workers: int | None = None

    @property
    def command(self) -> str:
        """The command line that gives the same report."""
        words = ["convfold", "train", "sr", "--block", ",".join(self.blocks) or PLAIN]
        given: dict[str, tuple[object, object]] = {
            "--scale": (self.scale, None),
            "--degrade": (self.degrade, "bicubic"),
            "--steps": (self.recipe.steps, SrRecipe.steps),
            "--batch-size": (self.recipe.batch_size, SrRecipe.batch_size),
            "--patch": (self.recipe.patch, SrRecipe.patch),
            "--loss": (self.recipe.loss, SrRecipe.loss),
            "--learning-rate": (",".join(f"{rate:g}" for rate in self.rates), f"{SrRecipe.learning_rate:g}"),
            "--seed": (self.seed, 0),
            "--seeds": (self.seeds, 1),
            "--width": (self.width, Options.width),
            "--depth": (self.depth, Options.depth),
            "--pictures": (self.pictures, None),
            "--bad-pictures": (self.bad_pictures, "fail"),
            "--out": (os.fspath(self.out), DEFAULT_FOLDER),
        }
        for option, (value, default) in given.items():
            words += [option, str(value)] if value != default else []
        return shlex.join(words)
