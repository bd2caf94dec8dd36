"""``convfold correlate``: how alike the channels of a model's layers are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from convfold.cli.models import Built, Inputs, Model, Weights, build
from convfold.cli.outputs import Json, check_outputs
from convfold.cli.progress import stages
from convfold.errors import InvalidArgument
from convfold.files import write_text
from convfold.report import render
from convfold.report.correlate_picture import correlate_page, correlate_picture
from convfold.studies.bench.decompose.data import named_inputs
from convfold.studies.correlate import correlate as measure
from convfold.transform.ship import check_target

__all__ = ["correlate"]

_NEEDS = {".png": ("matplotlib",), ".svg": ("matplotlib",), ".html": ("matplotlib", "jinja2")}
_NO_INPUT = "channels are correlated over samples: it needs data, or the shape of an input"


def correlate(
    model: Model,
    vs: Annotated[
        str | None, typer.Option("--vs", metavar="MODEL", help="A second model, layer by layer beside the first.")
    ] = None,
    input: Inputs = None,
    data: Annotated[str | None, typer.Option(help="See feature maps on digits, or a folder of pictures.")] = None,
    weights: Weights = None,
    vs_weights: Annotated[Path | None, typer.Option(help="A .safetensors file for the model of --vs.")] = None,
    where: Annotated[
        str | None, typer.Option(help="A glob over module names.", show_default="every convolution")
    ] = None,
    json_file: Json = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: file.png, file.svg or file.html.")] = None,
) -> None:
    """Show how alike the channels of each layer of MODEL are: Pearson's correlation between every two.

    Seen on the data; without any on a random input, where a shape is known or given.
    """
    if plot is not None and plot.suffix.lower() not in _NEEDS:
        raise InvalidArgument(
            "a plot is not written in this form", where="--plot", got=repr(plot.name), expected=list(_NEEDS)
        )
    if vs is None and vs_weights is not None:
        raise InvalidArgument("there is no second model for them", where="--vs-weights", hint="Name it by --vs.")
    check_outputs([("--json", json_file), ("--plot", plot)], (model, weights, vs, vs_weights))
    if plot is not None:
        check_target(plot, needs=_NEEDS[plot.suffix.lower()])
    wanted = [(model, weights)] if vs is None else [(model, weights), (vs, vs_weights)]
    names = _names([name for name, _ in wanted])
    seen = data or "random noise"
    found = []
    with stages(2 * len(wanted)) as stage:
        for name, file in wanted:
            stage(f"building {name}")
            built = build(name, file)
            stage(f"correlating {name}")
            found.append(measure(built.model, _seen(built, input, data), where))
    text = [str(found[0]) if vs is None else found[0].against(found[1], (names[0], names[1]))]
    text.append(f"\nSeen on {seen}.")
    told = list(zip(names, (one.to_dict() for one in found), strict=True))
    if json_file is not None:
        record = {"seen_on": seen, "models": [{"model": n, **t} for (n, _), (_, t) in zip(wanted, told, strict=True)]}
        write_text(json_file, json.dumps(record, indent=1) + "\n")
        text.append(f"written: {json_file}")
    if plot is not None:
        title = " against ".join(names)
        if plot.suffix.lower() == ".html":
            write_text(plot, render(correlate_page(title, told, seen)))
        else:
            correlate_picture(plot, title, told)
        text.append(f"written: {plot}")
    for part in text:
        typer.echo(part)


def _seen(built: Built, shapes: list[str] | None, data: str | None) -> object:
    if data is None:
        return built.needed(shapes, _NO_INPUT)
    return (named_inputs(data, built.model, built.inputs(shapes)),)


def _names(models: list[str]) -> list[str]:
    """What the models are called: the part after the last colon, where that tells them apart."""
    short = [name.rpartition(":")[2] for name in models]
    if len(set(short)) == len(models):
        return short
    return models if len(set(models)) == len(models) else [f"{name} ({index + 1})" for index, name in enumerate(short)]
