"""Trained networks to decompose: digits told apart, and photographs enlarged twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convfold.train import Recipe, count_wrong, digits, plain_cnn, train
from convfold.train.sr.batch import crops
from convfold.train.sr.colour import luminance
from convfold.train.sr.degrade import smaller
from convfold.train.sr.quality import psnr

__all__ = ["SETTINGS", "TASKS", "Task", "digits_task", "photographs_task"]

_EPOCHS, _WIDTH = 12, 16
_STEPS, _BATCH, _PATCH = 3000, 8, 24
_FIT = 256, 48  # images, patches
# Of each photograph's columns: trained and fitted on, deciding, held out. Never one beside the other twice.
_SHARES = (0.6, 0.8)


@dataclass(frozen=True)
class Task:
    """A trained `model`, the inputs to fit to, and its quality (higher is better) on validation and held-out data."""

    name: str
    model: nn.Module
    fit: Tensor
    example: Tensor
    quality: str
    validate: Callable[[nn.Module], float]
    hold_out: Callable[[nn.Module], float]
    floor: float | None = None  # what takes no network at all
    notes: str = ""


def digits_task(seed: int) -> Task:
    """A classifier of scikit-learn's digits; one half trains it and is fitted to, the other decides and is held out."""
    data = digits()
    torch.manual_seed(seed)
    model = plain_cnn(data.num_classes, _WIDTH)
    train(model, data, Recipe(_EPOCHS), seed)
    order = torch.randperm(len(data.test_x), generator=torch.Generator().manual_seed(0))
    parts = order.chunk(2)

    def accuracy(part: Tensor) -> Callable[[nn.Module], float]:
        x, y = data.test_x[part], data.test_y[part]
        return lambda network: 100 * (1 - count_wrong(network, x, y) / len(y))

    notes = f"{len(data.train_x)} images to train on, {_FIT[0]} of them to fit to"
    notes += f", {len(parts[0])} decide, {len(parts[1])} held out"
    validate, hold_out = (accuracy(part) for part in parts)
    return Task(
        "digits", model.eval(), data.train_x[: _FIT[0]], data.test_x[:1], "accuracy, %", validate, hold_out, notes=notes
    )


def photographs_task(seed: int) -> Task:
    """An ESPCN (Shi et al., arXiv:1609.05158) that enlarges the luminance of scikit-learn's two photographs twice.

    Columns of each photograph are parted: the left ones train, the middle ones decide, the right ones are held out.
    """
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2, padding_mode="replicate"),
        nn.Tanh(),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="replicate"),
        nn.Tanh(),
        nn.Conv2d(32, 4, 3, padding=1, padding_mode="replicate"),
        nn.PixelShuffle(2),
    )
    parts = [[_columns(picture, part) for picture in _photographs()] for part in range(3)]
    _train(model, parts[0], torch.Generator().manual_seed(seed))
    fit = torch.cat([_patches(smaller(picture, 2), _PATCH) for picture in parts[0]])
    fit = fit[torch.randperm(len(fit), generator=torch.Generator().manual_seed(seed))[: _FIT[1]]]
    notes = f"columns of both photographs: 60 % to train on ({_FIT[1]} patches to fit to), 20 % decide, 20 % held out"

    def mean_psnr(pictures: Sequence[Tensor]) -> Callable[[nn.Module], float]:
        return lambda network: _psnr(lambda x: _enlarged(network, x), pictures)

    floor = _psnr(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), parts[2])
    example = smaller(parts[2][0], 2)
    return Task(
        "photographs", model.eval(), fit, example, "PSNR, dB", mean_psnr(parts[1]), mean_psnr(parts[2]), floor, notes
    )


def _photographs() -> list[Tensor]:
    """Luminance (1, 1, H, W) in [0, 1], of even sizes. Needs scikit-learn and Pillow."""
    from sklearn.datasets import load_sample_images  # noqa: PLC0415

    greys = (luminance(torch.tensor(image)) for image in load_sample_images().images)
    return [grey[: grey.shape[0] // 2 * 2, : grey.shape[1] // 2 * 2][None, None] for grey in greys]


def _columns(picture: Tensor, part: int) -> Tensor:
    """Whole columns of one part, an even number."""
    width = picture.shape[-1]
    edges = [0, *(int(share * width) // 2 * 2 for share in _SHARES), width // 2 * 2]
    return picture[..., edges[part] : edges[part + 1]]


def _enlarged(network: nn.Module, x: Tensor) -> Tensor:
    """The network adds to the nearest pixel what it lacks."""
    large: Tensor = F.interpolate(x, scale_factor=2, mode="nearest") + network(x - 0.5)
    return large


def _patches(picture: Tensor, size: int) -> Tensor:
    """Every whole patch, side by side, as the network is given it."""
    cut = picture[0, 0].unfold(0, size, size).unfold(1, size, size)
    return cut.reshape(-1, 1, size, size).clone() - 0.5


def _train(model: nn.Module, pictures: Sequence[Tensor], generator: torch.Generator) -> None:
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    model.train()
    for step in range(_STEPS):
        picture = pictures[step % len(pictures)]
        large = crops(picture, 2 * _PATCH, _BATCH, 2, generator)
        loss = F.mse_loss(_enlarged(model, smaller(large, 2)), large)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()


def _psnr(enlarge: Callable[[Tensor], Tensor], pictures: Sequence[Tensor]) -> float:
    """The mean over pictures, in dB."""
    with torch.no_grad():
        values = [psnr(enlarge(smaller(picture, 2)), picture) for picture in pictures]
    return sum(values) / len(values)


# What decides the networks: a result that was made with others is made again.
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": _EPOCHS, "width": _WIDTH, "fit": _FIT[0]},
    "photographs": {"steps": _STEPS, "batch": _BATCH, "patch": _PATCH, "shares": list(_SHARES), "fit": _FIT[1]},
}
TASKS: dict[str, Callable[[int], Task]] = {"digits": digits_task, "photographs": photographs_task}
