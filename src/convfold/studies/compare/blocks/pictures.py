"""The task of ``convfold compare blocks`` that enlarges photographs two times."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from convfold.studies.compare.blocks.tasks import Measure, TaskSettings, Trained
from convfold.train.sr import Degradation, Pictures, SrRecipe, bundled, fit_sr, quality, sr_network
from convfold.train.sr.batch import draw, generator_of

__all__ = ["Enlarging"]

PSNR = Measure("PSNR, dB", "dB", lower_is_better=False)
SCALE, DEPTH, PATCH = 2, 4, 24
DEGRADATION = Degradation(SCALE)
# Of a training run's losses: as many parts as an early share can be taken of.
PARTS = 20


@lru_cache(maxsize=1)
def _pictures() -> Pictures:
    """The bundled photographs, read once per process."""
    return bundled(channels=1)


@dataclass(frozen=True)
class Enlarging:
    """Luminance of photographs, made half as large by a bicubic filter and enlarged again by a small CNN without BN."""

    of: TaskSettings
    name: str = "sr"
    title: str = "super-resolution ×2"
    measure: Measure = PSNR

    def plain(self, width: int) -> nn.Module:
        return sr_network(SCALE, 1, width, DEPTH)

    def recipe(self, rate: float) -> SrRecipe:
        return SrRecipe(self.of.length, self.of.batch_size, PATCH, rate)

    def _batch(self, seed: int) -> tuple[Tensor, Tensor]:
        """Small squares of a seed, as they are trained on, and the large ones that they were."""
        generator = generator_of(seed, "compare blocks")
        large = draw(_pictures().train, PATCH * SCALE, self.of.batch_size, generator)
        return DEGRADATION(large, generator), large

    def images(self, seed: int) -> Tensor:
        return self._batch(seed)[0]

    def fit(self, network: nn.Module, rate: float, seed: int, tuning: bool, tell: Callable[[int], None]) -> Trained:
        losses = fit_sr(network, _pictures().train, DEGRADATION, self.recipe(rate), seed)
        tell(len(losses))
        size = math.ceil(len(losses) / PARTS)
        parts = [losses[first : first + size] for first in range(0, len(losses), size)]
        return Trained([math.fsum(part) / len(part) for part in parts])

    def step(self, network: nn.Module) -> Callable[[], object]:
        small, large = self._batch(0)
        optimiser = torch.optim.Adam(network.train().parameters(), lr=1e-6)

        def step() -> None:
            loss = nn.functional.l1_loss(network(small), large)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()

        return step

    def training_loss(self, network: nn.Module, seed: int) -> float:
        small, large = self._batch(seed)
        with torch.no_grad():
            return float(nn.functional.l1_loss(network.eval()(small), large))

    def validation_loss(self, network: nn.Module, seed: int) -> float:
        """Minus the PSNR on what decides."""
        return -_mean([db for _, db, _ in quality(network, _pictures().validate, DEGRADATION)])

    def measured(self, network: nn.Module) -> tuple[float, dict[str, Any]]:
        rows = quality(network, _pictures().test, DEGRADATION)
        kept = {"psnr": {name: db for name, db, _ in rows}, "ssim": {name: s for name, _, s in rows}}
        return _mean([db for _, db, _ in rows]), kept

    @property
    def steps(self) -> int:
        return self.of.length

    def settings(self) -> dict[str, Any]:
        recipe = asdict(self.recipe(1.0))
        del recipe["learning_rate"]
        return {**recipe, **asdict(DEGRADATION), "depth": DEPTH, "data": _fingerprint()}


@lru_cache(maxsize=1)
def _fingerprint() -> str:
    """Twelve hex digits of every picture and its part."""
    found = _pictures()
    parts = (found.train, found.validate, found.test)
    texts = [f"{index}{p.name}".encode() + p.tensor.numpy().tobytes() for index, part in enumerate(parts) for p in part]
    return sha256(b"".join(texts)).hexdigest()[:12]


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
