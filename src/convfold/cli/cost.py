"""``convfold cost``: what one forward pass executes."""

from __future__ import annotations

import typer

from convfold.cli.models import Inputs, Model, build
from convfold.cli.progress import stages
from convfold.cost import cost as count

__all__ = ["cost"]


def cost(model: Model, input: Inputs = None) -> None:
    """Show multiply-accumulates, convolutions, operators and parameters of MODEL, by module."""
    with stages(2) as stage:
        stage(f"building {model}")
        built = build(model)
        inputs = built.needed(input, "costs depend on the input")
        stage("counting")
        report = count(built.model, inputs)
    typer.echo(report)
