"""The verbs on ONNX files: the same options, texts and exit codes as on models."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from convfold.cli.models import read_sizes
from convfold.cli.outputs import check_outputs, saved, write_told
from convfold.cli.progress import stages
from convfold.errors import FileProblem, InvalidArgument, NotEqual
from convfold.report.latency import file_latencies
from convfold.transform.fold_onnx import check_installed, check_out, fold_onnx, plan_onnx, save_model
from convfold.zoo import is_onnx

if TYPE_CHECKING:
    from convfold.plan.onnx import FilePlan

__all__ = ["fold_file", "plan_file", "verify_files"]


def fold_file(
    model: str,
    out: Path | None,
    shapes: Sequence[str] | None,
    weights: Path | None,
    objective: str,
    dry_run: bool,
    json_file: Path | None,
    report: Path | None,
) -> int:
    """Fold the file into `out`, verify and write it; `dry_run`: plan it alone. Returns the exit code."""
    _check_weights(weights)
    outputs = [("--json", json_file), ("--report", report)]
    if out is not None:
        _check_suffix(out)
        # Weights beside it are written too.
        outputs[:0] = [("--out", out), ("--out", out.with_name(f"{out.name}.data"))]
    check_outputs(outputs, (model,))
    if out is not None:
        check_out(model, out)
    inputs = _inputs(shapes)
    try:
        with stages(2) as stage:
            if dry_run or out is None:
                stage("planning")
                plan = plan_onnx(model, inputs, objective)
                text, extra, out = [str(plan)], dict[str, Any](), None
            else:
                stage("folding, comparing each region, and verifying the whole file")
                folded = fold_onnx(model, out, inputs, objective)
                plan = folded.plan
                text = [str(plan), f"\n{folded.certificate}", f"\n{saved(plan.before, plan.after)}; written: {out}"]
                extra = {"certificate": folded.certificate.to_dict(), "written": str(out)}
            if json_file is not None or report is not None:
                stage("timing before and after")
                text += _tell(plan, model, out, extra, json_file, report)
    except NotEqual as error:
        text, equal = [f"NOT EQUAL: {error}"], False
    else:
        equal = True
    for part in text:
        typer.echo(part)
    return 0 if equal else 1


def _check_suffix(out: Path) -> None:
    if out.suffix.lower() != ".onnx":
        raise InvalidArgument(
            "an ONNX file is folded into an ONNX file", where="--out", got=repr(out.name),
            expected="a name that ends in .onnx",
        )  # fmt: skip


def plan_file(
    model: str,
    shapes: Sequence[str] | None,
    weights: Path | None,
    objective: str,
    explain: bool,
    json_file: Path | None,
    report: Path | None,
    out: Path | None,
) -> None:
    """Show what in the file folds, what does not and why, and the cost before and after."""
    _check_weights(weights)
    if out is not None:
        raise InvalidArgument(
            "plans of ONNX files are not saved", where="--out", got=str(out),
            hint="--json writes what was decided; convfold fold does it.",
        )  # fmt: skip
    check_outputs([("--json", json_file), ("--report", report)], (model,))
    with stages(2) as stage:
        stage("planning")
        plan = plan_onnx(model, _inputs(shapes), objective)
        text = [str(plan), *([f"\n{plan.explain()}"] if explain else [])]
        if json_file is not None or report is not None:
            stage("timing before and after")
            text += _tell(plan, model, None, {}, json_file, report)
    for part in text:
        typer.echo(part)


def verify_files(a: str, b: str, shapes: Sequence[str] | None, weights: Path | None) -> int:
    """Compare two files; the exit code. Raises InvalidArgument where one of them is no ONNX file."""
    _check_weights(weights)
    for one in (a, b):
        if not is_onnx(one):
            raise InvalidArgument(
                "an ONNX file is compared with an ONNX file", got=repr(one), expected="a name that ends in .onnx",
                hint="convfold fold MODEL -o file.onnx writes one and compares it.",
            )  # fmt: skip
    check_installed()
    from convfold.verify.onnx import verify_files as compare  # noqa: PLC0415
    from convfold.verify.onnx.sizes import sizes_to_compare  # noqa: PLC0415

    with stages(2) as stage:
        stage(f"reading {a}")
        sizes = sizes_to_compare(a, _inputs(shapes))
        stage("comparing")
        certificate = compare(a, b, sizes)
    typer.echo(certificate)
    return 0 if certificate else 1


def _check_weights(weights: Path | None) -> None:
    if weights is not None:
        raise InvalidArgument("an ONNX file holds its weights", where="--weights", got=str(weights))


def _inputs(shapes: Sequence[str] | None) -> list[tuple[int, ...]]:
    return [read_sizes(shape) for shape in shapes or ()]


def _tell(
    plan: FilePlan,
    model: str,
    out: Path | None,
    extra: Mapping[str, Any],
    json_file: Path | None,
    report: Path | None,
) -> list[str]:
    """Time the file and what becomes of it, and write what is told of both; what to say of it."""
    with ExitStack() as stack:
        if out is None:
            try:
                out = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "folded.onnx"
                save_model(plan.model, out)
            except OSError as error:
                reason = (error.strerror or type(error).__name__).lower()
                raise FileProblem(
                    f"cannot write the folded file to time it ({reason})", where=tempfile.gettempdir(),
                    hint="Choose another place with TMPDIR, or free this one.",
                ) from error  # fmt: skip
        latencies = file_latencies(model, out, plan.whole.captured.example)
    timed = [latency.to_dict() for latency in latencies]
    found = {**plan.explain().to_dict(), "latency": timed, **extra}
    return [*map(str, latencies), *write_told(found, json_file, report)]
