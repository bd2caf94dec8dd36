"""Whether something can be written in a place, found out before any work is done for it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from convfold.errors import FileProblem, InvalidArgument
from convfold.files import output_folder

__all__ = ["check_target"]


def check_target(path: str | os.PathLike[str], *, folder: bool = False, needs: Sequence[str] = ()) -> None:
    """Prove that a file, or a `folder`, can be written there; nothing is left behind.

    Raises FileProblem, and InvalidArgument where a package is missing that writing it `needs`.
    """
    target = Path(path)
    parent = target.absolute().parent
    if folder and target.exists() and not target.is_dir():
        raise FileProblem("this is a file", where=str(path), expected="the name of a folder")
    if not folder and target.is_dir():
        raise FileProblem("this is a folder", where=str(path), expected="the name of a file")
    if not parent.is_dir():
        raise FileProblem("there is no such folder", where=str(parent), hint="Make it first, or choose another place.")
    output_folder(target if folder and target.is_dir() else parent)
    if missing := [name for name in needs if find_spec(name) is None]:
        raise InvalidArgument(
            f"writing this needs {' and '.join(missing)}, not installed",
            where=str(path),
            hint="pip install 'convfold[onnx,report]' brings what can be written.",
        )
