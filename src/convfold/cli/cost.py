"""``convfold cost``: what one forward pass executes."""

from __future__ import annotations

import typer

from convfold.cli.models import Inputs, Model, build_model, example
from convfold.cost import cost as count
from convfold.errors import InvalidArgument

__all__ = ["cost"]


def cost(model: Model, input: Inputs = None) -> None:
    """Show multiply-accumulates, convolutions, operators and parameters of MODEL, by module."""
    built = build_model(model, None)
    inputs = example(built, input)
    if inputs is None:
        raise InvalidArgument("costs depend on the input", where="--input", expected="a shape as 1x3x224x224")
    typer.echo(count(built, inputs))
