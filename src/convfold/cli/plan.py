"""``convfold plan``: what a fold would do, why, and what it would save."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convfold.cli.models import Aim, FileModel, Inputs, Objective, Weights, build
from convfold.cli.onnx_files import plan_file
from convfold.cli.outputs import Json, Report, check_outputs, write_told
from convfold.cli.progress import stages
from convfold.plan import plan as decide
from convfold.zoo import is_onnx

__all__ = ["plan"]


def plan(
    model: FileModel,
    input: Inputs = None,
    weights: Weights = None,
    objective: Aim = Objective.MACS,
    explain: Annotated[bool, typer.Option("--explain", help="Print what becomes of each operator, and why.")] = False,
    json_file: Json = None,
    report: Report = None,
    out: Annotated[Path | None, typer.Option(help="Write the plan here, as JSON; convfold.load_plan reads it.")] = None,
) -> None:
    """Show what in MODEL folds, what does not and why, and the cost before and after.

    Nothing is folded, and MODEL is not changed.
    """
    if is_onnx(model):
        plan_file(model, input, weights, objective.value, explain, json_file, report, out)
        return
    check_outputs([("--json", json_file), ("--report", report), ("--out", out)], (model, weights))
    explained = explain or json_file is not None or report is not None
    with stages(3) as stage:
        stage(f"building {model}")
        built = build(model, weights)
        inputs = built.needed(input, "an explanation needs an example input") if explained else built.inputs(input)
        stage("capturing and planning")
        decided = decide(built.model, inputs, objective.value)
        stage("counting")
        text, written = [str(decided)], list[str]()
        if explained:
            explanation = decided.explain()
            text += [f"\n{explanation}"] if explain else []
            written = write_told({**explanation.to_dict(), "model": model}, json_file, report)
        if out is not None:
            decided.save(out)
            written.append(f"written: {out}")
    for part in (*text, *written):
        typer.echo(part)
