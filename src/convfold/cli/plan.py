"""``convfold plan``: what a fold would do, why, and what it would save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convfold.cli.models import Aim, Inputs, Model, Objective, Weights, build
from convfold.cli.outputs import check_outputs
from convfold.cli.progress import stages
from convfold.files import write_text
from convfold.plan import plan as decide
from convfold.report.graph_page import write_graph_page

__all__ = ["Report", "plan"]

Report = Annotated[Path | None, typer.Option(help="Write the graphs before and after here, as a page of HTML.")]


def plan(
    model: Model,
    input: Inputs = None,
    weights: Weights = None,
    objective: Aim = Objective.MACS,
    explain: Annotated[bool, typer.Option("--explain", help="Print what becomes of each operator, and why.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write that explanation here, as JSON.")] = None,
    report: Report = None,
    out: Annotated[Path | None, typer.Option(help="Write the plan here, as JSON; convfold.load_plan reads it.")] = None,
) -> None:
    """Show what in MODEL folds, what does not and why, and the cost before and after.

    Nothing is folded, and MODEL is not changed.
    """
    check_outputs([("--json", json_file), ("--report", report), ("--out", out)], (model, weights))
    explained = explain or json_file is not None or report is not None
    with stages(3) as stage:
        stage(f"building {model}")
        built = build(model, weights)
        inputs = built.needed(input, "an explanation needs an example input") if explained else built.inputs(input)
        stage("capturing and planning")
        decided = decide(built.model, inputs, objective.value)
        stage("counting")
        text = [str(decided)]
        if explained:
            explanation = decided.explain()
            found = {**explanation.to_dict(), "model": model}
            if explain:
                text.append(f"\n{explanation}")
            if json_file is not None:
                write_text(json_file, json.dumps(found, indent=1) + "\n")
            if report is not None:
                write_graph_page(report, found)
        if out is not None:
            decided.save(out)
    for part in text:
        typer.echo(part)
    for path in (json_file, report, out):
        if path is not None:
            typer.echo(f"written: {path}")
