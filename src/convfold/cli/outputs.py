"""Where the verbs write: checked before any work is done, and never over what was read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from convfold.errors import InvalidArgument
from convfold.plan import Plan
from convfold.transform.ship import ONNX_NEEDS, PLAN, WEIGHTS, check_target, save_folder, save_onnx, save_pt2

__all__ = ["REPORT_NEEDS", "check_folded", "check_outputs", "write_folded"]

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


def check_folded(out: Path, report: Path | None, inputs: Iterable[str | Path | None]) -> None:
    """Prove that a folded model can be written to `out`, whose suffix says how, and its report beside.

    Raises InvalidArgument for a suffix of another kind, a missing package, or a file that is read;
    FileProblem where the place cannot be written.
    """
    suffix = out.suffix.lower()
    if suffix in _FILES:
        check_outputs([("--out", out), ("--report", report)], inputs)
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
    check_outputs([*inside, ("--report", report)], inputs)


def write_folded(folded: nn.Module, plan: Plan, inputs: object, out: Path) -> str:
    """Write it as its suffix says; returns what a reader should know of it."""
    save = _FILES.get(out.suffix.lower())
    return save_folder(folded, plan, out) if save is None else save(folded, inputs, out)


def _real(path: str | Path) -> Path:
    return Path(path).resolve()
