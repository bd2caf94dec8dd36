"""``convfold rank``: the ranks of a model's kernels and feature maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convfold.cli.models import Inputs, Model, Weights, build
from convfold.cli.outputs import Json, check_outputs
from convfold.cli.progress import stages
from convfold.errors import InvalidArgument
from convfold.files import write_text
from convfold.report import render
from convfold.report.decompose import rank_page
from convfold.report.rank_picture import rank_picture
from convfold.studies.bench.decompose.data import named_inputs
from convfold.studies.rank import rank as measure
from convfold.transform.ship import check_target

__all__ = ["rank"]

_NEEDS = {".png": ("matplotlib",), ".svg": ("matplotlib",), ".html": ("matplotlib", "jinja2")}


def rank(
    model: Model,
    input: Inputs = None,
    weights: Weights = None,
    data: Annotated[str | None, typer.Option(help="See feature maps on digits, or a folder of pictures.")] = None,
    where: Annotated[str | None, typer.Option(help="A glob over module names.")] = None,
    json_file: Json = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: file.png, file.svg or file.html.")] = None,
) -> None:
    """Show the rank of each kernel of MODEL, how far it is from separable, and the effective rank of its outputs.

    Feature maps are seen on the data; without any on a random input, where a shape is known or given.
    """
    if plot is not None and plot.suffix.lower() not in _NEEDS:
        raise InvalidArgument(
            "a plot is not written in this form", where="--plot", got=repr(plot.name), expected=list(_NEEDS)
        )
    check_outputs([("--json", json_file), ("--plot", plot)], (model, weights))
    if plot is not None:
        check_target(plot, needs=_NEEDS[plot.suffix.lower()])
    with stages(2) as stage:
        stage(f"building {model}")
        built = build(model, weights)
        inputs: object = built.inputs(input)
        seen = "random noise" if inputs is not None else "nothing: no input was given"
        if data is not None:
            inputs, seen = (named_inputs(data, built.model, inputs),), data
        stage("measuring")
        found = measure(built.model, inputs, where)
        told = found.to_dict()
        text = [str(found), f"\nFeature maps seen on {seen}."]
        if json_file is not None:
            write_text(json_file, json.dumps({"model": model, "seen_on": seen, **told}, indent=1) + "\n")
            text.append(f"written: {json_file}")
        if plot is not None:
            if plot.suffix.lower() == ".html":
                write_text(plot, render(rank_page(model, told, seen)))
            else:
                rank_picture(plot, model, told["rows"])
            text.append(f"written: {plot}")
    for part in text:
        typer.echo(part)
