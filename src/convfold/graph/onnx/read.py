"""Reading an ONNX file: what can be folded is returned, everything else is one sentence.

A file is untrusted. What onnx, onnx_ir and ONNX Runtime take on trust (where weights lie, how long they are, which
operators exist) is checked before they see it, and their own complaints are cut to one line.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from convfold.errors import ConvfoldError, FileProblem, InvalidArgument
from convfold.graph.onnx.read_external import check_tensors, set_folder, without_small_files
from convfold.graph.onnx.read_operators import check_operators
from convfold.graph.onnx.read_parts import one_line
from convfold.graph.onnx.read_structure import check_structure

__all__ = ["read"]

# What protobuf can hold in one message.
LIMIT = 2**31 - 1


def read(path: str | os.PathLike[str]) -> ir.Model:
    """The model in the file `path`, checked; weights in other files stay there and are mapped when they are used.

    Raises FileProblem when the file or one with its weights is missing, unreadable, too short or no ONNX model, or
    when weights are asked for outside the model's folder; InvalidArgument when what it says is no valid model of
    operators that the installed onnx knows.
    """
    file = Path(path)
    proto = _parsed(file)
    with _sentences(file, "the file is damaged", FileProblem, "Export the model again."):
        check_structure(proto, str(file))
        check_operators(proto, str(file))
        has_files = check_tensors(proto, file)
    with _sentences(file, "not a valid ONNX model", InvalidArgument, "`onnx.checker.check_model` says the same."):
        _check(proto, file, has_files)
    with _sentences(file, "onnx_ir cannot read the model", InvalidArgument, "Export the model again."):
        with warnings.catch_warnings():  # of keys of external data that it does not know
            warnings.simplefilter("ignore")
            model = ir.from_proto(proto)
        set_folder(model, file)
    return model


def _parsed(file: Path) -> onnx.ModelProto:
    where = str(file)
    try:
        size = file.stat().st_size
        if file.is_dir():
            raise FileProblem("a folder, not an ONNX file", where=where, hint="Name the .onnx file in it.")
        if not file.is_file():
            raise FileProblem("not a regular file", where=where, hint="Copy the model to a file first.")
        if size > LIMIT:
            raise FileProblem(
                "no ONNX file is this large", where=where, got=f"{size} bytes", expected=f"at most {LIMIT}",
                hint="Save it with its weights as external data.",
            )  # fmt: skip
        content = file.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise FileProblem(f"cannot read ({reason.lower()})", where=where, hint="Check the path.") from error
    if not content:
        raise FileProblem("the file is empty", where=where, hint="Export the model again.")
    try:
        proto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise FileProblem(
            "not an ONNX model, or a truncated or damaged one", where=where, got=f"{size} bytes that do not parse",
            hint="Export or download it again.",
        ) from error  # fmt: skip
    if not proto.HasField("graph") or not proto.HasField("ir_version"):
        raise FileProblem(
            "not an ONNX model, or a truncated one", where=where, got="no graph in it", hint="Export it again."
        )
    return proto


def _check(proto: onnx.ModelProto, file: Path, has_files: bool) -> None:
    """onnx's own check, types and shapes included."""
    # By path, relative to which the checker looks for weights; the absolute one, as its folder may not be empty.
    onnx.checker.check_model(os.path.abspath(file), full_check=not has_files)
    if has_files:
        # Inference wants the numbers of a Reshape's shape: those are read in, large tensors stay where they are.
        content = without_small_files(proto, file).SerializeToString()
        onnx.shape_inference.infer_shapes(content, check_type=True, strict_mode=True)


@contextmanager
def _sentences(file: Path, what: str, kind: type[FileProblem] | type[InvalidArgument], hint: str) -> Iterator[None]:
    """Turn whatever the libraries raise on a bad file into one sentence."""
    try:
        yield
    except ConvfoldError:
        raise
    except Exception as error:
        raise kind(what, where=str(file), got=one_line(error), hint=hint) from error
