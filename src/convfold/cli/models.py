"""What the verbs share: naming a model, its weights and its inputs on the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.zoo import load_model, load_weights

__all__ = ["Inputs", "Model", "Weights", "build_model", "example"]

Model = Annotated[str, typer.Argument(help="timm:NAME, torchvision:NAME or package.module:factory.")]
Weights = Annotated[Path | None, typer.Option(help="A .safetensors file to load into the model.")]
Inputs = Annotated[list[str] | None, typer.Option("--input", help="Shape of an example input, as 1x3x224x224.")]


def build_model(name: str, weights: Path | None) -> nn.Module:
    """The model of that name in eval mode, with its weights if a file of them is named."""
    model = load_model(name)
    if weights is not None:
        load_weights(model, weights)
    return model.eval()


def example(model: nn.Module, shapes: list[str] | None) -> tuple[Tensor, ...] | None:
    """Random inputs of the given shapes in the model's precision, or None where none were given."""
    if not shapes:
        return None
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for shape in shapes:
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
            raise InvalidArgument("this is no shape", where="--input", got=repr(shape), expected="sizes as 1x3x224x224")
        inputs.append(torch.randn([int(n) for n in shape.split("x")], generator=generator).to(dtype))
    return tuple(inputs)
