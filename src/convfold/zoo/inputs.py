"""Inputs that a model is known to take, so that nobody has to name them, and how their pictures are scaled."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convfold.zoo.names import import_torchvision, is_program, load_model
from convfold.zoo.program import read_program

__all__ = ["MEAN", "STD", "known_inputs", "known_size", "normalisation", "open_model", "random_input"]

# What torchvision's and most of timm's classification models were trained with.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_TORCHVISION = (3, 224, 224)
_LARGER = {"inception_v3": (3, 299, 299)}


def random_input(model: nn.Module, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """A normally distributed input of that shape, in the precision and on the device of the model's parameters."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.randn(shape, generator=generator).to(like)


def known_size(name: str, model: nn.Module) -> tuple[int, int, int] | None:
    """Channels, height and width of the images that the `model` of that name was made for; None where not known.

    They are known for timm's models and for torchvision's classification models.
    """
    library, _, rest = name.partition(":")
    size: Any = None
    if library == "timm":
        size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    elif library == "torchvision":
        models = import_torchvision().models  # type: ignore[attr-defined]
        size = _LARGER.get(rest, _TORCHVISION) if rest in models.list_models(module=models) else None
    return None if size is None else tuple(size)


def known_inputs(name: str, model: nn.Module) -> tuple[Tensor, ...] | None:
    """One random image of `known_size`; None where that is not known."""
    size = known_size(name, model)
    if size is None:
        return None
    return (random_input(model, (1, *size), torch.Generator().manual_seed(0)),)


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel that pictures in [0, 1] are scaled by: the model's own (timm), else ImageNet's."""
    config: dict[str, Any] = getattr(model, "pretrained_cfg", None) or {}
    return tuple(config.get("mean", MEAN)), tuple(config.get("std", STD))


def open_model(name: str) -> tuple[nn.Module, tuple[Any, ...] | dict[str, Any] | None]:
    """The model of that name and the inputs that are known for it: those of `known_inputs`, or a ``.pt2`` file's own.

    Raises as `load_model` does.
    """
    if is_program(name):
        program = read_program(name)
        return program.model, program.inputs
    model = load_model(name)
    return model, known_inputs(name, model)
