"""``convfold fold``: fold a model, verify it, and write it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convfold.cli.models import Aim, Inputs, Model, Objective, Weights, build
from convfold.cli.outputs import check_folded, write_folded
from convfold.cli.plan import Report
from convfold.cli.progress import stages
from convfold.cost import CostReport, cost
from convfold.errors import NotFoldable
from convfold.plan import plan as decide
from convfold.report.graph_page import write_graph_page
from convfold.verify import verify

__all__ = ["fold"]


def fold(
    model: Model,
    out: Annotated[
        Path,
        typer.Option(help="file.pt2, file.onnx, or a folder, for plan.json and model.safetensors."),
    ],
    input: Inputs = None,
    weights: Weights = None,
    objective: Aim = Objective.MACS,
    report: Report = None,
) -> int:
    """Fold MODEL, verify that it computes the same, and write it.

    Where it does not compute the same, nothing is written and the exit code is 1. A .pt2 or .onnx file runs without
    convfold. A folder holds what turns the model's own code into the folded model again: docs/folding.md shows how.
    """
    check_folded(out, report, (model, weights))
    with stages(5) as stage:
        stage(f"building {model}")
        built = build(model, weights)
        inputs = built.needed(input, "a fold is verified on an example input")
        stage("capturing and planning")
        decided = decide(built.model, inputs, objective.value)
        if decided.blocking:
            raise NotFoldable(decided.blocking[0])
        stage("folding, and comparing each region")
        folded = decided.apply()
        stage("verifying the whole model")
        before, after = cost(built.model, inputs), cost(folded, inputs)
        certificate = verify(built.model, folded, inputs)
        text = [str(decided), f"\n{certificate}"]
        if certificate:
            stage(f"writing {out}")
            known = write_folded(folded, decided, inputs, out)
            text.append(f"\n{_saved(before, after)}; written: {out} ({known})")
            if report is not None:
                write_graph_page(report, {**decided.explain().to_dict(), "model": model})
                text.append(f"written: {report}")
    for part in text:
        typer.echo(part)
    return 0 if certificate else 1


def _saved(before: CostReport, after: CostReport) -> str:
    kinds = (("MACs", "macs"), ("convolutions", "convolutions"), ("operators", "operators"))
    return ", ".join(f"{name} {getattr(before, key):,} -> {getattr(after, key):,}" for name, key in kinds)
