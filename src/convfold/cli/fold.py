"""``convfold fold``: fold a model, verify it, and write the plan and the folded weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from safetensors.torch import save_file

from convfold.cli.models import Inputs, Model, Weights, build_model, example
from convfold.errors import InvalidArgument
from convfold.files import atomic_path, output_folder
from convfold.plan import plan as decide
from convfold.verify import verify

__all__ = ["fold"]


def fold(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for plan.json and model.safetensors.")],
    input: Inputs = None,
    weights: Weights = None,
) -> int:
    """Fold MODEL, verify the result, and write the plan and the folded weights to a folder.

    Load them again with ``convfold.load_plan(OUT/plan.json).apply(model)`` and ``load_state_dict``.
    """
    built = build_model(model, weights)
    inputs = example(built, input)
    if inputs is None:
        raise InvalidArgument(
            "a fold is verified on an example input", where="--input", expected="a shape as 1x3x224x224"
        )
    folder = output_folder(out)
    decided = decide(built, inputs)
    folded = decided.apply()
    typer.echo(decided)
    certificate = verify(built, folded, inputs)
    typer.echo(f"\n{certificate}")
    if not certificate:
        return 1
    with atomic_path(folder / "model.safetensors") as path:
        save_file({name: tensor.contiguous() for name, tensor in folded.state_dict().items()}, path)
    decided.save(folder / "plan.json")
    return 0
