"""The numbers of a model's tensors: that they are there, all of them, and nowhere but in the model's folder."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto

from convfold.errors import FileProblem, InvalidArgument
from convfold.graph.onnx.read_parts import all_tensors, printable

__all__ = ["check_tensors", "set_folder", "without_small_files"]

# Numbers that say a shape, not weights: what shape inference may want to see (bytes).
SMALL = 4096


def check_tensors(proto: onnx.ModelProto, file: Path) -> bool:
    """Whether some tensors lie in other files; all are checked for where they are and how long.

    Raises FileProblem or InvalidArgument for the first that is not whole.
    """
    folder = Path(os.path.realpath(file.parent))
    sizes: dict[str, int] = {}
    has_files = False
    for tensor in all_tensors(proto):
        expected = _bytes(tensor, str(file))
        if tensor.data_location != TensorProto.EXTERNAL:
            _check_embedded(tensor, expected, str(file))
            continue
        has_files = True
        location, offset, length = _entries(tensor, expected, str(file))
        if location not in sizes:
            sizes[location] = _external_size(location, folder, tensor, str(file))
        if offset + length > sizes[location]:
            raise FileProblem(
                f"external data of {_name(tensor)} is cut off: {printable(location)} is too short",
                where=str(file),
                got=f"{sizes[location]} bytes",
                expected=f"at least {offset + length}",
                hint="Download or export it again.",
            )
    return has_files


def _name(tensor: TensorProto) -> str:
    return f"tensor {printable(tensor.name)!r}"


def _bad(tensor: TensorProto, what: str, where: str, got: object = "", expected: object = "") -> InvalidArgument:
    return InvalidArgument(
        f"{_name(tensor)} {what}", where=where, got=got, expected=expected, hint="Export the model again."
    )


def _bytes(tensor: TensorProto, where: str) -> int:
    """What the numbers of a tensor take; 0 for texts."""
    if any(n < 0 for n in tensor.dims):
        raise _bad(tensor, "has a negative size", where, got=list(tensor.dims))
    try:
        kind = ir.DataType(tensor.data_type)
    except ValueError:
        raise _bad(tensor, "has an unknown type", where, got=tensor.data_type) from None
    if kind == ir.DataType.UNDEFINED:
        raise _bad(tensor, "has no type", where)
    elements = 1
    for n in tensor.dims:
        elements *= n
    # No machine holds more; products of sizes in 64 bits would wrap.
    if elements >= 2**48:
        raise _bad(tensor, "is larger than any memory", where, got=list(tensor.dims))
    return 0 if kind == ir.DataType.STRING else -(-elements * kind.bitwidth // 8)


def _check_embedded(tensor: TensorProto, expected: int, where: str) -> None:
    if tensor.HasField("raw_data"):
        if tensor.data_type == TensorProto.STRING:
            raise _bad(tensor, "has texts where numbers belong", where)
        if len(tensor.raw_data) != expected:
            raise _bad(tensor, "does not fill its shape", where, f"{len(tensor.raw_data)} bytes", expected)
        return
    # Few writers use the typed fields, whose numbers may be too many, too few, too large, or of another type.
    try:
        onnx.numpy_helper.to_array(tensor)
    except Exception as error:
        raise _bad(tensor, "does not fill its shape", where, expected=list(tensor.dims)) from error


def _entries(tensor: TensorProto, expected: int, where: str) -> tuple[str, int, int]:
    """Location, offset and length of external data."""
    entries: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in entries:
            raise _bad(tensor, f"gives its {printable(entry.key)!r} twice", where)
        entries[entry.key] = entry.value
    if tensor.data_type == TensorProto.STRING:
        raise _bad(tensor, "has texts in another file", where)
    location = entries.get("location", "")
    if not location or "\0" in location:
        raise _bad(tensor, "does not say which file it is in", where)
    numbers = []
    for key, default in (("offset", 0), ("length", expected)):
        text = entries.get(key, str(default))
        if len(text) > 20 or not text.isascii() or not text.isdigit():
            raise _bad(tensor, f"has an impossible {key} of its external data", where, got=repr(printable(text)))
        numbers.append(int(text))
    offset, length = numbers
    if length != expected:
        raise _bad(tensor, "has external data of another length than its shape", where, length, expected)
    return location, offset, length


def _external_size(location: str, folder: Path, tensor: TensorProto, where: str) -> int:
    """The size of a file with external data, which lies in the model's folder."""
    hint = "Put the weights into the model's folder."
    windows = PureWindowsPath(location)
    if os.path.isabs(location) or windows.drive or windows.root:
        raise FileProblem(
            "external data must be named relative to the model's folder",
            where=where,
            got=printable(location),
            hint=hint,
        )
    try:
        target = Path(os.path.realpath(folder / location))
        # By name too: onnx and ONNX Runtime do not follow what leaves the folder and comes back.
        inside = Path(os.path.normpath(folder / location)).is_relative_to(folder) and target.is_relative_to(folder)
        if not inside or ".." in Path(location).parts:
            raise FileProblem(
                "external data lies outside the model's folder", where=where, got=printable(location), hint=hint
            )
        if not target.exists():
            raise FileProblem(
                f"external data of {_name(tensor)} is missing", where=where, got=printable(location),
                hint="The file belongs beside the model.",
            )  # fmt: skip
        if not target.is_file():
            raise FileProblem("external data is not in a regular file", where=where, got=printable(location))
        if (folder / location).is_symlink():
            raise FileProblem(
                "external data is a symbolic link, which onnx does not follow", where=where, got=printable(location),
                hint="Copy the file.",
            )  # fmt: skip
        status = target.stat()
        if status.st_nlink > 1:
            raise FileProblem(
                "external data is a hard link, which onnx does not follow", where=where, got=printable(location),
                hint="Copy the file.",
            )  # fmt: skip
        with target.open("rb"):
            return status.st_size
    except (OSError, ValueError) as error:
        if isinstance(error, FileProblem):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise FileProblem(
            f"cannot read external data ({reason.lower()})", where=where, got=printable(location)
        ) from error


def without_small_files(proto: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    """A copy in which small tensors of external data hold their numbers themselves."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in all_tensors(copy):
        expected = _bytes(tensor, str(file))
        if tensor.data_location == TensorProto.EXTERNAL and expected <= SMALL:
            location, offset, length = _entries(tensor, expected, str(file))
            with (file.parent / location).open("rb") as data:
                data.seek(offset)
                numbers = np.frombuffer(data.read(length), np.uint8)
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = numbers.tobytes()
    return copy


def set_folder(model: ir.Model, file: Path) -> None:
    """Say where external data is found, in functions too."""
    folder = os.path.abspath(file.parent)
    for part in (model.graph, *(function.graph for function in model.functions.values())):
        ir.external_data.set_base_dir(part, folder)
