"""``convfold plan``: what a fold would do, and what it would save."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convfold.cli.models import Inputs, Model, Weights, build_model, example
from convfold.plan import plan as decide

__all__ = ["plan"]


def plan(
    model: Model,
    input: Inputs = None,
    weights: Weights = None,
    out: Annotated[Path | None, typer.Option(help="Write the plan here, as JSON.")] = None,
) -> None:
    """Show what in MODEL folds, what does not and why, and the cost before and after."""
    built = build_model(model, weights)
    decided = decide(built, example(built, input))
    typer.echo(decided)
    if out is not None:
        decided.save(out)
