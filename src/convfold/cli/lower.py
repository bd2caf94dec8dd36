"""``convfold lower``: rewrite a model for hardware that lacks an operator, and write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convfold.cli.models import FORMS_HELP, Inputs, Weights, build
from convfold.cli.outputs import check_folded, check_outputs
from convfold.cli.progress import stages
from convfold.errors import InvalidArgument, NotEqual
from convfold.files import write_text
from convfold.plan.table import table
from convfold.transform.lower import find_target, targets
from convfold.transform.lower import lower as rewrite
from convfold.transform.ship import save_onnx, save_pt2
from convfold.zoo import is_onnx

__all__ = ["lower"]

_FILES = {".pt2": save_pt2, ".onnx": save_onnx}


def lower(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help=FORMS_HELP, show_default=False)] = None,
    target: Annotated[
        str | None, typer.Option("--target", "-t", help="The name of a target, or a .toml file of rules.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="file.pt2 or file.onnx.", show_default=False)] = None,
    input: Inputs = None,
    weights: Weights = None,
    partial: Annotated[bool, typer.Option("--partial", help="Go on where some layers cannot be lowered.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what became of each layer, as JSON.")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the targets that there are.")] = False,
) -> int:
    """Rewrite MODEL, exactly, without the operators that a TARGET excludes; show each layer, and write it.

    Each layer is compared in float64, then the whole model; where it does not compute the same, nothing is written and
    the exit code is 1. A target that is not reached is an error, unless with --partial. docs/lower.md tells the rules.
    """
    if list_them:
        typer.echo(table(("target", "for"), [(name, find_target(name).about) for name in targets()]))
        return 0
    if model is None or target is None:
        what, option = ("no model was named", "MODEL") if model is None else ("no target was named", "--target")
        raise InvalidArgument(what, where=option, hint="convfold lower --list shows the targets.")
    wanted = find_target(target)
    _check(model, out, json_file, weights)
    with stages(3 if out is not None else 2) as stage:
        stage(f"building {model}")
        built = build(model, weights)
        inputs = built.needed(input, "a lowering is verified on an example input")
        stage(f"lowering for {wanted.name}, and comparing each layer")
        try:
            lowered, report = rewrite(built.model, inputs, wanted, report=True, partial=partial)
        except NotEqual as error:
            typer.echo(str(error))
            return 1
        told = [str(report)]
        if out is not None:
            stage(f"writing {out}")
            known = _FILES[out.suffix.lower()](lowered, inputs, out)
            told.append(f"\nwritten: {out} ({known})")
        if json_file is not None:
            found = {**report.to_dict(), "model": model, "written": None if out is None else str(out)}
            write_text(json_file, json.dumps(found, indent=1) + "\n")
            told.append(f"\nwritten: {json_file}")
    for part in told:
        typer.echo(part)
    return 0


def _check(model: str, out: Path | None, json_file: Path | None, weights: Path | None) -> None:
    """Whether the outputs can be written, before any work is done."""
    if is_onnx(model):
        raise InvalidArgument(
            "an ONNX file is not lowered", where=model, hint="Lower the model that it was exported from, to an .onnx."
        )
    if out is None:
        check_outputs([("--json", json_file)], (model, weights))
        return
    if out.suffix.lower() not in _FILES:
        raise InvalidArgument(
            "a lowered model is not written in this form",
            where="--out",
            got=repr(out.name),
            expected="a name that ends in .pt2 or .onnx",
        )
    check_folded(out, json_file, None, (model, weights))
