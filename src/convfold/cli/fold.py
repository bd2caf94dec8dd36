"""``convfold fold``: fold a model, verify it, and write it."""

from __future__ import annotations

from typing import Any

import typer

from convfold.cli.models import Aim, FileModel, Inputs, Objective, Weights, build
from convfold.cli.onnx_files import fold_file
from convfold.cli.outputs import (
    DryRun,
    Json,
    Out,
    Report,
    check_folded,
    check_outputs,
    saved,
    write_folded,
    write_told,
)
from convfold.cli.progress import stages
from convfold.cost import cost
from convfold.errors import InvalidArgument, NotFoldable
from convfold.plan import plan as decide
from convfold.verify import verify
from convfold.zoo import is_onnx

__all__ = ["fold"]


def fold(
    model: FileModel,
    out: Out = None,
    input: Inputs = None,
    weights: Weights = None,
    objective: Aim = Objective.MACS,
    dry_run: DryRun = False,
    json_file: Json = None,
    report: Report = None,
) -> int:
    """Fold MODEL, verify that it computes the same, and write it.

    Where it does not compute the same, nothing is written and the exit code is 1. A .pt2 or .onnx file runs without
    convfold. A folder holds what turns the model's own code into the folded model again: docs/folding.md shows how.
    An .onnx file is folded into an .onnx file: docs/onnx.md.
    """
    if out is None and not dry_run:
        raise InvalidArgument(
            "a fold is written to a file",
            where="--out",
            expected="a name that ends in .pt2 or .onnx, or that of a folder",
            hint="With --dry-run it is shown alone.",
        )
    if is_onnx(model):
        return fold_file(model, out, input, weights, objective.value, dry_run, json_file, report)
    if out is None:
        check_outputs([("--json", json_file), ("--report", report)], (model, weights))
    else:
        check_folded(out, json_file, report, (model, weights))
    with stages(2 if dry_run else 5) as stage:
        stage(f"building {model}")
        built = build(model, weights)
        inputs = built.needed(input, "a fold is verified on an example input")
        stage("capturing and planning")
        decided = decide(built.model, inputs, objective.value)
        if decided.blocking:
            raise NotFoldable(decided.blocking[0])
        text, extra, equal = [str(decided)], dict[str, Any](), True
        if not dry_run and out is not None:
            stage("folding, and comparing each region")
            folded = decided.apply()
            stage("verifying the whole model")
            before, after = cost(built.model, inputs), cost(folded, inputs)
            certificate = verify(built.model, folded, inputs)
            text.append(f"\n{certificate}")
            if certificate:
                stage(f"writing {out}")
                known = write_folded(folded, decided, inputs, out)
                text.append(f"\n{saved(before, after)}; written: {out} ({known})")
            extra = {"certificate": certificate.to_dict(), "written": str(out)}
            equal = bool(certificate)
        if equal and (json_file is not None or report is not None):
            text += write_told({**decided.explain().to_dict(), "model": model, **extra}, json_file, report)
    for part in text:
        typer.echo(part)
    return 0 if equal else 1
