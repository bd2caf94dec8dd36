"""Folding an ONNX file: read, planned, written beside, proven, renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convfold.errors import FileProblem, InvalidArgument, NotEqual
from convfold.transform.ship.target import check_target

if TYPE_CHECKING:
    import onnx_ir as ir

    from convfold.plan.onnx import FilePlan
    from convfold.verify.onnx import FileCertificate

__all__ = ["ONNX_FILE_NEEDS", "FoldedFile", "fold_onnx", "plan_onnx"]

ONNX_FILE_NEEDS = ("onnx", "onnx_ir", "onnxruntime")
# A model above this holds its weights in a file of their own; protobuf takes 2 GiB.
_LARGE = 2**31 - 2**24

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class FoldedFile:
    """What was folded, into which file, and the proof: outputs compared in ONNX Runtime and against float64."""

    plan: FilePlan
    certificate: FileCertificate
    path: Path


def plan_onnx(path: str | os.PathLike[str], inputs: Shapes | None = None, objective: str = "macs") -> FilePlan:
    """Decide the fold of the ONNX file `path`; nothing is written.

    `inputs` gives a shape for each input, where sizes that the file leaves open shall not be chosen; `objective` is
    "macs", "ops" or "latency" (nodes timed in ONNX Runtime), as of `convfold.plan`. Every region is compared in
    float64 where the file's operators have a float64 reference. Raises FileProblem and InvalidArgument for files and
    shapes that are wrong, in a sentence.
    """
    _check_installed()
    from convfold.graph.onnx.capture import capture  # noqa: PLC0415
    from convfold.graph.onnx.read import read  # noqa: PLC0415
    from convfold.plan.onnx import plan_file, pricing  # noqa: PLC0415

    model = read(path)
    known = {value.name for value in model.graph.inputs}
    for name in inputs or {}:
        if name not in known:
            raise InvalidArgument("no input of the file has this name", where=str(path), got=name, expected=known)
    captured = capture(model, {name: tuple(shape) for name, shape in (inputs or {}).items()})
    with pricing(captured, objective) as prices:
        return plan_file(captured, Path(path).name, objective, prices)


def fold_onnx(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    inputs: Shapes | None = None,
    objective: str = "macs",
) -> FoldedFile:
    """Fold the ONNX file `path` into `out`, and prove that it computes the same.

    Inputs, outputs, names, opset imports, metadata, open sizes, functions and subgraphs stay; weights that lay in a
    file of their own lie in one beside `out`. The new file is written beside, checked by onnx, counted again, run in
    ONNX Runtime beside the old one at several sizes, and only then renamed. Raises NotEqual when it does not compute
    or cost what it should, and what `plan_onnx` raises; `out` is then as it was.
    """
    _check_out(Path(path), Path(out))
    plan = plan_onnx(path, inputs, objective)
    from convfold.graph.onnx.shapes import probe_shapes  # noqa: PLC0415
    from convfold.verify.onnx import verify_files  # noqa: PLC0415

    target = Path(out)
    with _beside(target) as folder:
        written = folder / target.name
        _write(plan.model, written)
        _check_written(plan, written)
        captured = plan.whole.captured
        certificate = verify_files(path, written, probe_shapes(captured.model, captured.example))
        if not certificate:
            raise NotEqual(
                "the folded file does not compute what the file does; it was not written",
                where=str(path),
                got=f"an error of {certificate.error:.1e}",
                expected=f"at most {certificate.bound:.1e}",
                hint="Please report this: it is a fault of convfold.",
            )
        # Weights first: a model without them is no model.
        for name in sorted(os.listdir(folder), key=lambda name: name == target.name):
            os.replace(folder / name, target.parent / name)
    return FoldedFile(plan, certificate, target)


def _check_installed() -> None:
    missing = [name for name in ONNX_FILE_NEEDS if find_spec(name) is None]
    if missing:
        raise InvalidArgument(
            f"ONNX files need {' and '.join(missing)}, not installed", hint="pip install 'convfold[onnx]' brings it."
        )


def _check_out(path: Path, out: Path) -> None:
    for one, two in ((out, path), (_weights(out), path), (_weights(out), _weights(path))):
        if one.exists() and two.exists() and os.path.samefile(one, two):
            raise InvalidArgument(
                f"{two} is read, and would be written over", where=str(out), hint="Name another file."
            )
    check_target(out)


def _weights(path: Path) -> Path:
    return path.with_name(f"{path.name}.data")


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder beside `target`, gone afterwards. Raises FileProblem when there is no room or no right to write."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.absolute().parent) as folder:
            yield Path(folder)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise FileProblem(
            f"cannot write ({reason})", where=str(target), hint="Choose another place, or free this one."
        ) from error


def _write(model: ir.Model, path: Path) -> None:
    """Write the model; weights go to a file of their own where they lay in one, or are too many for one file."""
    import onnx_ir as ir  # noqa: PLC0415

    held: list[Any] = [
        value.const_value for value in model.graph.initializers.values() if value.const_value is not None
    ]
    apart = any(isinstance(tensor, ir.ExternalTensor) for tensor in held) or sum(t.nbytes for t in held) > _LARGE
    ir.save(model, path, external_data=_weights(path).name if apart else None, size_threshold_bytes=1024)


def _check_written(plan: FilePlan, path: Path) -> None:
    """The file passes onnx's checker, and costs what was planned."""
    from convfold.graph.onnx.capture import capture  # noqa: PLC0415
    from convfold.graph.onnx.read import read  # noqa: PLC0415
    from convfold.plan.onnx import totals_of  # noqa: PLC0415

    again = capture(read(path), plan.whole.captured.example)
    got, expected = totals_of(again, again.program, plan.whole.pricer, again.model), plan.after
    if got != expected:
        raise NotEqual(
            "the folded file does not cost what was planned", where=str(path.name), got=got, expected=expected,
            hint="Please report this: it is a fault of convfold.",
        )  # fmt: skip
