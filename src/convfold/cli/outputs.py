"""What the verbs write, and where: checked before any work is done, and never over what was read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from torch import nn

from convfold.errors import InvalidArgument
from convfold.files import write_text
from convfold.plan import Plan
from convfold.report.graph_page import write_graph_page
from convfold.transform.ship import ONNX_NEEDS, PLAN, WEIGHTS, check_target, save_folder, save_onnx, save_pt2

__all__ = [
    "REPORT_NEEDS",
    "DryRun",
    "Json",
    "Out",
    "Report",
    "check_folded",
    "check_outputs",
    "saved",
    "write_folded",
    "write_told",
]

Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="file.pt2, file.onnx, or a folder, for plan.json and model.safetensors.", show_default=False
    ),
]
Report = Annotated[Path | None, typer.Option(help="Write the graphs before and after here, as a page of HTML.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write what becomes of each operator here, as JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan alone; MODEL is not folded, nor written.")]

REPORT_NEEDS = ("jinja2",)
_FILES = {".pt2": save_pt2, ".onnx": save_onnx}
# Suffixes of files that people keep models in: not the name of a folder.
_OTHER = {".bin", ".ckpt", ".h5", ".json", ".pb", ".pkl", ".pt", ".pth", ".safetensors", ".tflite", ".torchscript"}


def check_outputs(outputs: Iterable[tuple[str, Path | None]], inputs: Iterable[str | Path | None]) -> None:
    """Hold the files to write, each with its option, against one another and against those that are read.

    Raises InvalidArgument where two are one and the same file; FileProblem where one cannot be written.
    """
    taken = {_real(path): f"{path} is read" for path in inputs if path is not None and os.path.exists(path)}
    for option, path in outputs:
        if path is None:
            continue
        if (real := _real(path)) in taken:
            raise InvalidArgument(f"{taken[real]}, and would be written over", where=option, hint="Name another file.")
        taken[real] = f"{path} is written already"
        check_target(path, needs=REPORT_NEEDS if option == "--report" else ())


def check_folded(out: Path, json_file: Path | None, report: Path | None, inputs: Iterable[str | Path | None]) -> None:
    """Prove that a folded model can be written to `out`, whose suffix says how, and what is told of it beside.

    Raises InvalidArgument for a suffix of another kind, a missing package, or a file that is read;
    FileProblem where the place cannot be written.
    """
    told = [("--json", json_file), ("--report", report)]
    suffix = out.suffix.lower()
    if suffix in _FILES:
        check_outputs([("--out", out), *told], inputs)
        check_target(out, needs=ONNX_NEEDS if suffix == ".onnx" else ())
        return
    if suffix in _OTHER and not out.is_dir():
        raise InvalidArgument(
            "a folded model is not written in this form",
            where="--out",
            got=repr(out.name),
            expected="a name that ends in .pt2 or .onnx, or that of a folder",
        )
    check_target(out, folder=True)
    inside = [("--out", out / name) for name in (PLAN, WEIGHTS) if out.is_dir()]
    check_outputs([*inside, *told], inputs)


def write_folded(folded: nn.Module, plan: Plan, inputs: object, out: Path) -> str:
    """Write it as its suffix says; returns what a reader should know of it."""
    save = _FILES.get(out.suffix.lower())
    return save_folder(folded, plan, out) if save is None else save(folded, inputs, out)


def write_told(found: Mapping[str, Any], json_file: Path | None, report: Path | None) -> list[str]:
    """Write an explanation as JSON and as a page, where they are asked for; what to say of it."""
    if json_file is not None:
        write_text(json_file, json.dumps(found, indent=1) + "\n")
    if report is not None:
        write_graph_page(report, found)
    return [f"written: {path}" for path in (json_file, report) if path is not None]


class Totals(Protocol):
    """What a model costs."""

    @property
    def macs(self) -> int: ...
    @property
    def convolutions(self) -> int: ...
    @property
    def operators(self) -> int: ...


def saved(before: Totals, after: Totals) -> str:
    """What a fold saves, in words."""
    kinds = (("MACs", "macs"), ("convolutions", "convolutions"), ("operators", "operators"))
    return ", ".join(f"{name} {getattr(before, key):,} -> {getattr(after, key):,}" for name, key in kinds)


def _real(path: str | Path) -> Path:
    return Path(path).resolve()
