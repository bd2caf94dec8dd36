"""Writing files so that a reader never meets half of one: beside first, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convfold.errors import FileProblem

__all__ = ["append_line", "atomic_path", "output_folder", "remove_leftovers", "write_bytes", "write_text"]


def _problem(where: Path, error: OSError) -> FileProblem:
    reason = error.strerror or type(error).__name__
    return FileProblem(
        f"cannot write ({reason.lower()})", where=str(where), hint="Choose another place, or free this one."
    )


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder `path` and prove that a file can be written in it.

    Raises FileProblem when it cannot be made or written, before any work is done for it.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".probe-"):
            pass
    except OSError as error:
        raise _problem(folder, error) from error
    return folder


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block succeeds.

    When the block raises, the temporary file is removed and `path` is as it was. Raises FileProblem
    when the place cannot be written.
    """
    target = Path(path)
    beside = target.with_name(f".{target.stem}-{os.getpid()}{target.suffix}")
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        os.replace(beside, target)
    except OSError as error:
        raise _problem(target, error) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def remove_leftovers(targets: Iterable[Path]) -> None:
    """Remove what a killed atomic write of one of `targets` left beside it; of a folder, what any left in it.

    Only while nobody else writes there: a file that is being written looks the same.
    """
    for target in targets:
        folder, name = (target, ".*-*") if target.is_dir() else (target.parent, f".{target.stem}-*{target.suffix}")
        for path in folder.glob(name):
            if path.stem.rpartition("-")[2].isdigit():
                with suppress(OSError):
                    path.unlink()


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_path(path) as beside:
        beside.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write `content` to `path` in UTF-8, whole or not at all."""
    write_bytes(path, content.encode())


def append_line(path: str | os.PathLike[str], line: str) -> None:
    """Append one line to a log, in one write, so that a kill leaves at most a line without its end."""
    try:
        with open(path, "ab", buffering=0) as log:
            log.write(line.encode() + b"\n")
    except OSError as error:
        raise _problem(Path(path), error) from error
