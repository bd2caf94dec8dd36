"""``convfold expand``: which layers a block would take, before anything is touched."""

from __future__ import annotations

from typing import Annotated

import typer

from convfold.cli.models import Inputs, Model, Weights, build
from convfold.transform import plan_expansion

__all__ = ["expand"]


def expand(
    model: Model,
    block: Annotated[str, typer.Argument(metavar="BLOCK", help="Name of a block, as dbb, or a recipe.toml.")],
    where: Annotated[str | None, typer.Option(help="A glob over module names.")] = None,
    input: Inputs = None,
    weights: Weights = None,
) -> None:
    """Show which layers of MODEL would become BLOCK, and why others would not. Nothing is written."""
    built = build(model, weights)
    typer.echo(plan_expansion(built.model, block, where, built.inputs(input)))
