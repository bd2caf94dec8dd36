"""What the verbs share: naming a model, its weights, its inputs and the objective on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from convfold.errors import InvalidArgument
from convfold.zoo import FILE_FORMS, FORMS, load_weights, open_model, random_input

__all__ = ["FORMS_HELP", "Aim", "Built", "FileModel", "Inputs", "Model", "Objective", "Weights", "build", "read_sizes"]

FORMS_HELP = f"{FILE_FORMS}."
Model = Annotated[str, typer.Argument(metavar="MODEL", help=f"{FORMS}.")]
FileModel = Annotated[str, typer.Argument(metavar="MODEL", help=FORMS_HELP)]
Weights = Annotated[Path | None, typer.Option(help="A .safetensors file to load into the model.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        help="Shape of an example input, as 1x3x224x224; once for each input.",
        show_default="the model's own where it is known (timm, torchvision, .pt2, .onnx)",
    ),
]


class Objective(StrEnum):
    """What a plan makes cheap; `convfold.plan` says what each means."""

    MACS = "macs"
    LATENCY = "latency"
    OPS = "ops"


Aim = Annotated[
    Objective,
    typer.Option(
        "--objective", help="What to save: multiply-accumulates, seconds measured on this machine, or operators."
    ),
]


@dataclass(frozen=True)
class Built:
    """A model in eval mode, and the example inputs that are known for it."""

    name: str
    model: nn.Module
    known: tuple[Any, ...] | dict[str, Any] | None

    def inputs(self, shapes: list[str] | None) -> tuple[Any, ...] | dict[str, Any] | None:
        """Random inputs of the given shapes in the model's precision; without shapes the known ones, or None."""
        if not shapes:
            return self.known
        generator = torch.Generator().manual_seed(0)
        return tuple(random_input(self.model, read_sizes(shape), generator) for shape in shapes)

    def needed(self, shapes: list[str] | None, reason: str) -> tuple[Any, ...] | dict[str, Any]:
        """The same; InvalidArgument with that reason where there are none."""
        inputs = self.inputs(shapes)
        if inputs is None:
            raise InvalidArgument(reason, where="--input", expected="a shape as 1x3x224x224")
        return inputs


def build(name: str, weights: Path | None = None) -> Built:
    """The model of that name in eval mode, with its weights if a file of them is named.

    Weights that a factory draws are drawn after the same seed each time, so that two commands see one model.
    """
    torch.manual_seed(0)
    model, known = open_model(name)
    if weights is not None:
        load_weights(model, weights)
    return Built(name, model.eval(), known)


def read_sizes(shape: str) -> tuple[int, ...]:
    """The sizes of a shape as 1x3x224x224. Raises InvalidArgument for other texts."""
    if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
        raise InvalidArgument("this is no shape", where="--input", got=repr(shape), expected="sizes as 1x3x224x224")
    return tuple(int(n) for n in shape.split("x"))
