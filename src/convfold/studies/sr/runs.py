"""What decides a super-resolution run, and the job that makes one: train, fold, verify, judge on held-out pictures."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from convfold.errors import ConvfoldError
from convfold.studies.runlog import made_with
from convfold.train.sr import (
    Degradation,
    Fit,
    Picture,
    Pictures,
    SrRecipe,
    bundled,
    from_folder,
    quality,
    sr_arm,
    sr_network,
)
from convfold.train.sr.quality import given
from convfold.train.sr.state import load_fit, save_fit
from convfold.transform import fold
from convfold.verify import Certificate, verify

__all__ = ["PLAIN", "Run", "Settings", "SrJob", "fingerprint", "pictures_of", "plain_network", "stretch"]

PLAIN = "plain"
# Steps between two checkpoints: a second or two of work.
EVERY = 200
# Into how many points a learning curve is averaged.
POINTS = 40
# The edge of the picture that folds are verified on, beside the probes that `verify` makes itself.
_EDGE = 24


@dataclass(frozen=True)
class Settings:
    """All that decides the runs, but for arm, learning rate and seed."""

    scale: int
    degrade: str
    width: int
    depth: int
    recipe: SrRecipe
    folder: str | None
    bad_pictures: str
    fingerprint: str

    @property
    def pictures(self) -> Pictures:
        """What is trained on, decides and is held out."""
        return pictures_of(self.folder, self.bad_pictures, self.recipe.patch * self.scale)

    @property
    def degradation(self) -> Degradation:
        return Degradation(self.scale, self.degrade)

    def shared(self) -> dict[str, Any]:
        """What all runs of a folder have in common, as kept beside them."""
        recipe = asdict(self.recipe)
        del recipe["learning_rate"]
        degradation = asdict(self.degradation)
        return {**degradation, "width": self.width, "depth": self.depth, **recipe, "pictures": self.fingerprint}

    def of(self, name: str) -> dict[str, Any]:
        """All that the result of the run of that name depends on, but for its seed; nothing for a foreign name."""
        run = Run.parse(name)
        if run is None:
            return {}
        return {**self.shared(), "arm": run.arm, "learning_rate": run.rate, **made_with()}


@dataclass(frozen=True)
class Run:
    """An arm at a learning rate."""

    arm: str
    rate: float

    @property
    def name(self) -> str:
        """As the log calls it."""
        return f"{self.arm}@{self.rate:g}"

    @classmethod
    def parse(cls, name: str) -> Run | None:
        """The run of that name, None for other texts."""
        arm, _, rate = name.partition("@")
        with suppress(ValueError):
            found = cls(arm, float(rate))
            return found if found.name == name else None
        return None


@lru_cache(maxsize=1)
def pictures_of(folder: str | None, bad_pictures: str, least: int) -> Pictures:
    """The bundled photographs, or a folder's with sides of `least` pixels or more, read once per process."""
    return bundled() if folder is None else from_folder(folder, bad_pictures=bad_pictures, least=least)


def fingerprint(pictures: Pictures) -> str:
    """Twelve hex digits of every name and value, part by part."""
    found = hashlib.sha256()
    for part in (pictures.train, pictures.validate, pictures.test):
        for picture in part:
            found.update(f"{picture.name} {tuple(picture.tensor.shape)}".encode())
            found.update(picture.tensor.numpy().tobytes())
        found.update(b"|")
    return found.hexdigest()[:12]


def plain_network(settings: Settings, seed: int) -> nn.Module:
    """The plain network of a seed: what every arm of that seed starts from, and has the architecture of when folded."""
    torch.manual_seed(seed)
    return sr_network(settings.scale, 1, settings.width, settings.depth)


@dataclass(frozen=True)
class SrJob:
    """One run. It goes on from `checkpoint` where that is there, and removes it when its result is whole."""

    what: Run
    seed: int
    settings: Settings
    checkpoint: Path
    keep_weights: bool

    @property
    def name(self) -> str:
        return self.what.name

    def __str__(self) -> str:
        return f"training {self.what.arm}, learning rate {self.what.rate:g}, seed {self.seed}"

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        """Returns the result to log; with `keep_weights` under "weights" those of the folded network, as safetensors.

        Tells how many steps are made. Raises ConvfoldError for a loss that is not finite; the checkpoint stays.
        """
        settings = self.settings
        pictures = settings.pictures
        example = _example(pictures.test[0], settings.degradation)
        began = time.process_time()
        plain = plain_network(settings, self.seed)
        wide = sr_arm(plain, self.what.arm)
        start = None if self.what.arm == PLAIN else _told(verify(plain, wide, example))
        recipe = replace(settings.recipe, learning_rate=self.what.rate)
        fit = Fit(wide, pictures.train, settings.degradation, recipe, self.seed)
        self._train(fit, tell)
        wide.eval()
        folded = fold(wide)
        certificate = verify(wide, folded, example)
        result: dict[str, Any] = {
            "start": start,
            "certificate": _told(certificate),
            "validate": quality(folded, pictures.validate, settings.degradation),
            "test": quality(folded, pictures.test, settings.degradation),
            "losses": _thinned(fit.losses),
            "parameters": sum(p.numel() for p in wide.parameters() if p.requires_grad),
            "cpu_seconds": time.process_time() - began,
        }
        if self.keep_weights:
            result["weights"] = save({name: tensor.contiguous() for name, tensor in folded.state_dict().items()})
        return result

    def _train(self, fit: Fit, tell: Callable[[Any], None]) -> None:
        told = {**self.settings.of(self.name), "seed": self.seed}
        if self.checkpoint.exists():
            load_fit(fit, self.checkpoint, told)
        while not fit.done:
            try:
                fit.advance()
            except ConvfoldError as error:
                save_fit(fit, self.checkpoint, told)
                raise ConvfoldError(f"{error} The weights before it are in {self.checkpoint}") from error
            if fit.step % EVERY == 0:
                save_fit(fit, self.checkpoint, told)
                tell(fit.step)


def _example(picture: Picture, degradation: Degradation) -> torch.Tensor:
    return given(picture, degradation)[..., :_EDGE, :_EDGE].contiguous()


def _told(certificate: Certificate) -> dict[str, Any]:
    """A certificate without its single probes: a line of the log holds two of them."""
    whole = certificate.to_dict()
    return {key: whole[key] for key in ("equal", "error", "bound", "scale", "dtype")}


def stretch(steps: int) -> int:
    """Over how many steps a point of a learning curve is a mean, so that there are at most `POINTS` of them."""
    return -(-steps // POINTS)


def _thinned(losses: list[float]) -> list[float]:
    length = stretch(len(losses))
    parts = [losses[i : i + length] for i in range(0, len(losses), length)]
    return [sum(part) / len(part) for part in parts]
