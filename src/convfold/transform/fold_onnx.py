"""Folding an ONNX file: read, planned, written beside, proven, renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convfold.errors import FileProblem, InvalidArgument, NotEqual
from convfold.transform.ship.target import check_target

if TYPE_CHECKING:
    import onnx_ir as ir

    from convfold.graph.onnx.given import GivenShapes
    from convfold.plan.onnx import FilePlan
    from convfold.verify.onnx import FileCertificate

__all__ = ["ONNX_FILE_NEEDS", "FoldedFile", "check_installed", "check_out", "fold_onnx", "plan_onnx", "save_model"]

ONNX_FILE_NEEDS = ("onnx", "onnx_ir", "onnxruntime")
# A model above this holds its weights in a file of their own; protobuf takes 2 GiB.
_LARGE = 2**31 - 2**24


@dataclass(frozen=True)
class FoldedFile:
    """What was folded, into which file, and the proof: outputs compared in ONNX Runtime and against float64."""

    plan: FilePlan
    certificate: FileCertificate
    path: Path


def plan_onnx(path: str | os.PathLike[str], inputs: GivenShapes | None = None, objective: str = "macs") -> FilePlan:
    """Decide the fold of the ONNX file `path`; nothing is written.

    `inputs` gives shapes where sizes that the file leaves open shall not be chosen: by name, or in the order of the
    file's inputs. `objective` is "macs", "ops" or "latency" (nodes timed in ONNX Runtime), as of `convfold.plan`. Every
    region is compared in float64 where the file's operators have a float64 reference. Raises FileProblem and
    InvalidArgument for files and shapes that are wrong, in a sentence.
    """
    check_installed()
    from convfold.graph.onnx.read import read  # noqa: PLC0415

    return _planned(read(path), Path(path), inputs, objective)


def _planned(model: ir.Model, path: Path, inputs: GivenShapes | None, objective: str) -> FilePlan:
    from convfold.graph.onnx.capture import capture  # noqa: PLC0415
    from convfold.graph.onnx.given import named_shapes  # noqa: PLC0415
    from convfold.plan.onnx import plan_file, pricing  # noqa: PLC0415

    captured = capture(model, named_shapes(model, inputs or (), str(path)))
    with pricing(captured, objective) as prices, _enough_memory(path):
        return plan_file(captured, path.name, objective, prices)


def fold_onnx(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    inputs: GivenShapes | None = None,
    objective: str = "macs",
) -> FoldedFile:
    """Fold the ONNX file `path` into `out`, and prove that it computes the same.

    Inputs, outputs, names, opset imports, metadata, open sizes, functions and subgraphs stay; weights that lay in a
    file of their own lie in one beside `out`. The new file is written beside, checked by onnx, counted again, run in
    ONNX Runtime beside the old one at several sizes, and only then renamed. Raises NotEqual when it does not compute
    or cost what it should, and what `plan_onnx` raises; `out` is then as it was.
    """
    check_installed()
    check_out(path, out)
    from convfold.graph.onnx.read import read  # noqa: PLC0415

    model = read(path)
    _check_apart(model, Path(out))
    plan = _planned(model, Path(path), inputs, objective)
    from convfold.graph.onnx.shapes import probe_shapes  # noqa: PLC0415
    from convfold.verify.onnx import verify_files  # noqa: PLC0415

    target = Path(out)
    with _beside(target) as folder, _enough_memory(Path(path)):
        written = folder / target.name
        save_model(plan.model, written, apart=is_apart(model))
        _check_written(plan, written)
        _release(model)
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


@contextmanager
def _enough_memory(path: Path) -> Iterator[None]:
    """A sentence where there is not: a damaged file may ask for any amount."""
    try:
        yield
    except MemoryError as error:
        hint = "A size or a padding in the file may be wrong, or give smaller shapes with --input."
        raise InvalidArgument("folding it takes more memory than there is", where=str(path), hint=hint) from error


def check_installed() -> None:
    """Raises InvalidArgument where a package that reads ONNX files is missing."""
    missing = [name for name in ONNX_FILE_NEEDS if find_spec(name) is None]
    if missing:
        raise InvalidArgument(
            f"ONNX files need {' and '.join(missing)}, not installed", hint="pip install 'convfold[onnx]' brings it."
        )


def check_out(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Prove that a fold of the file `path` can be written to `out`.

    Raises InvalidArgument where it would write over what it reads, FileProblem where the place cannot be written.
    """
    _check_other(Path(out), [Path(path), _weights(Path(path))])
    check_target(out)


def _check_other(out: Path, read: Iterable[Path]) -> None:
    for file in read:
        if any(one.exists() and file.exists() and os.path.samefile(one, file) for one in (out, _weights(out))):
            raise InvalidArgument(
                f"{file} is read, and would be written over", where=str(out), hint="Name another file."
            )


def _check_apart(model: ir.Model, out: Path) -> None:
    """The weights that the model maps from files of any name are not written over either."""
    import onnx_ir as ir  # noqa: PLC0415

    held = (value.const_value for graph in model.graphs() for value in graph.initializers.values())
    _check_other(out, {Path(tensor.path) for tensor in held if isinstance(tensor, ir.ExternalTensor)})


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


def save_model(model: ir.Model, path: Path, *, apart: bool = False) -> None:
    """Write the model; weights go to a file of their own where that is asked for, or they are too many for one file."""
    import onnx_ir as ir  # noqa: PLC0415

    size = sum(tensor.nbytes for tensor in _held(model))
    apart = apart or size > _LARGE
    ir.save(model, path, external_data=_weights(path).name if apart else None, size_threshold_bytes=1024)


def is_apart(model: ir.Model) -> bool:
    """Whether a model that was read has weights in files of their own."""
    import onnx_ir as ir  # noqa: PLC0415

    return any(isinstance(tensor, ir.ExternalTensor) for tensor in _held(model))


def _release(model: ir.Model) -> None:
    """Let go of the maps of the weights: the runtime, which comes next, holds them itself."""
    import onnx_ir as ir  # noqa: PLC0415

    for tensor in _held(model):
        if isinstance(tensor, ir.ExternalTensor):
            tensor.release()


def _held(model: ir.Model) -> list[Any]:
    return [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]


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
