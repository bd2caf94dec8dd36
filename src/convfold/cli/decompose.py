"""``convfold decompose``: convolutions as rows of cheaper ones, within an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save
from torch import nn

from convfold.cli.models import Inputs, Model, Weights, build
from convfold.cli.outputs import Json, check_folded, check_outputs
from convfold.cli.progress import stages
from convfold.errors import InvalidArgument
from convfold.files import write_bytes, write_text
from convfold.report import render
from convfold.report.decompose import decomposition_page
from convfold.studies.bench.decompose.data import named_inputs
from convfold.transform.decompose import METHODS, Report
from convfold.transform.decompose import decompose as run
from convfold.transform.ship import save_onnx, save_pt2

__all__ = ["decompose"]

_FILES = {".pt2": save_pt2, ".onnx": save_onnx}


def decompose(
    model: Model,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "separable",
    rank: Annotated[
        list[str] | None,
        typer.Option(help="8, a fraction of the full rank as 0.25, 16x8 for tucker, or LAYER=8, once for each."),
    ] = None,
    max_error: Annotated[float | None, typer.Option(help="The largest relative error of each layer.")] = None,
    target_macs: Annotated[str | None, typer.Option(help="MACs of the model afterwards, or a fraction as 0.5.")] = None,
    total_error: Annotated[float | None, typer.Option(help="The largest root of the sum of squared errors.")] = None,
    data: Annotated[str | None, typer.Option(help="Fit outputs on digits, or on a folder of pictures.")] = None,
    compressed: Annotated[
        bool, typer.Option("--compressed", help="Fit each layer to its inputs in the model as decomposed so far.")
    ] = False,
    where: Annotated[str | None, typer.Option(help="A glob over module names.")] = None,
    input: Inputs = None,
    weights: Weights = None,
    json_file: Json = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="file.safetensors, file.pt2 or file.onnx.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write what became of each layer here, as a page of HTML.")
    ] = None,
) -> None:
    """Decompose MODEL and show, for each layer, rank, bound, error and cost, or why it stays.

    A .pt2 or .onnx file runs without convfold. A .safetensors file holds the weights, and in its metadata, under
    "convfold", the ranks that make the same structure from the model's own code again: docs/decompose.md.
    """
    _check(out, json_file, report, (model, weights))
    ranks, target = _ranks(rank), _target(target_macs)
    with stages(3 if out is None else 4) as stage:
        stage(f"building {model}")
        built = build(model, weights)
        inputs = built.inputs(input)
        samples = None
        if data is not None:
            stage(f"reading {data}")
            samples = named_inputs(data, built.model, inputs)
            inputs = (samples[:1],) if data == "digits" else inputs
        stage("decomposing")
        changed, told = run(
            built.model,
            method,
            ranks,
            max_error,
            target,
            samples,
            where,
            report=True,
            example_inputs=inputs,
            total_error=total_error,
            inputs="compressed" if compressed else "original",
        )
        text = [str(told)]
        if out is not None:
            stage(f"writing {out}")
            text.append(f"\nwritten: {out}{_write(changed, told, inputs, out)}")
        record = {"model": model, "command": _options(method, rank, max_error, target, total_error), **told.to_dict()}
        if json_file is not None:
            write_text(json_file, json.dumps(record, indent=1) + "\n")
            text.append(f"written: {json_file}")
        if report is not None:
            write_text(report, render(decomposition_page(model, told.to_dict())))
            text.append(f"written: {report}")
    for part in text:
        typer.echo(part)


def _check(out: Path | None, json_file: Path | None, report: Path | None, read: tuple[str | Path | None, ...]) -> None:
    told = [("--json", json_file), ("--report", report)]
    if out is None:
        check_outputs(told, read)
    elif out.suffix.lower() in _FILES:
        check_folded(out, json_file, report, read)
    elif out.suffix.lower() == ".safetensors":
        check_outputs([("--out", out), *told], read)
    else:
        raise InvalidArgument(
            "a decomposed model is not written in this form",
            where="--out",
            got=repr(out.name),
            expected="a name that ends in .safetensors, .pt2 or .onnx",
        )


def _write(changed: nn.Module, told: Report, inputs: object, out: Path) -> str:
    save_file = _FILES.get(out.suffix.lower())
    if save_file is None:
        ranks = {row.layer: row.to_dict()["rank"] for row in told.rows if row.decomposed}
        method = told.rows[0].method
        known = json.dumps({"method": method, "rank": ranks})
        state = {name: tensor.contiguous() for name, tensor in changed.state_dict().items()}
        write_bytes(out, save(_apart(state), {"convfold": known}))
        return ""
    if inputs is None:
        raise InvalidArgument("a program is exported on an example input", where="--input", expected="1x3x224x224")
    return f" ({save_file(changed.eval(), inputs, out)})"


def _apart(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of tensors that stand under two names: the format has no sharing."""
    seen: set[int] = set()
    result = {}
    for name, tensor in state.items():
        result[name] = tensor.clone() if tensor.data_ptr() in seen else tensor
        seen.add(tensor.data_ptr())
    return result


def _ranks(texts: list[str] | None) -> Any:
    """The `rank` argument as it is written on the command line."""
    if not texts:
        return None
    named = [text.rpartition("=") for text in texts]
    if all(equals for _, equals, _ in named):
        return {layer: _rank(text) for layer, _, text in named}
    if len(texts) > 1:
        raise InvalidArgument(
            "several ranks are given, one without its layer", where="--rank", got=", ".join(texts), expected="LAYER=8"
        )
    return _rank(texts[0])


def _rank(text: str) -> int | float | tuple[int, int]:
    try:
        if "x" in text:
            first, second = text.split("x")
            return int(first), int(second)
        return float(text) if "." in text else int(text)
    except ValueError:
        raise InvalidArgument(
            "this is no rank", where="--rank", got=repr(text), expected="8, 0.25, 16x8 or LAYER=8"
        ) from None


def _target(text: str | None) -> int | float | None:
    if text is None:
        return None
    try:
        return float(text) if "." in text else int(text.replace(",", "").replace("_", ""))
    except ValueError:
        raise InvalidArgument(
            "this is no number of MACs", where="--target-macs", got=repr(text), expected="an integer or a fraction"
        ) from None


def _options(
    method: str, rank: list[str] | None, max_error: float | None, target: int | float | None, total: float | None
) -> dict[str, Any]:
    asked = {"rank": rank, "max_error": max_error, "target_macs": target, "total_error": total}
    return {"method": method, **{name: value for name, value in asked.items() if value is not None}}
