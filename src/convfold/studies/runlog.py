"""A log of finished runs, one JSON line each, that a study killed at any moment can go on from."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

import torch

from convfold.errors import FileProblem
from convfold.files import append_line

try:
    import fcntl
except ImportError:  # Windows has no flock: there two studies in one folder are the user's to avoid.
    fcntl = None  # type: ignore[assignment]

__all__ = ["RunLog", "made_with"]

FIELDS = {"name", "seed", "settings", "result"}


def made_with() -> dict[str, str]:
    """What every result depends on besides its settings."""
    return {"convfold": version("convfold"), "torch": torch.__version__, "machine": platform.machine()}


class RunLog:
    """The runs logged in `path`, one line per (name, seed) with the settings it was made under.

    A line counts only if it is whole and its settings equal `settings(name)`; the rest is left in the file,
    untouched, and counted in `foreign` (other settings) and `damaged` (cut off, or not ours). Holds a lock on the file
    until `close`, so that two studies never write one log. Raises FileProblem when another one does.
    """

    def __init__(self, path: Path, settings: Callable[[str], dict[str, Any]]) -> None:
        self._path = path
        self._settings = settings
        self._lock = self._open()
        self.results: dict[tuple[str, int], dict[str, Any]] = {}
        self.foreign = 0
        self.damaged = 0
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            # Ends the line that a kill cut off, so that the next one starts on its own.
            append_line(path, "")
        for line in content.splitlines():
            self._read(line)

    def _open(self) -> IO[bytes]:
        try:
            log = self._path.open("ab")
        except OSError as error:
            raise FileProblem(
                f"cannot write ({error.strerror})", where=str(self._path), hint="Choose another folder."
            ) from error
        if fcntl is not None:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                log.close()
                raise FileProblem(
                    "another run is writing here",
                    where=str(self._path.parent),
                    hint="Wait for it, or choose another folder.",
                ) from error
        return log

    def _read(self, line: bytes) -> None:
        if not line.strip():
            return
        record: Any = None
        with suppress(ValueError):
            record = json.loads(line)
        if not isinstance(record, dict) or set(record) != FIELDS:
            self.damaged += 1
        elif record["settings"] != self._normal(record["name"]):
            self.foreign += 1
        else:
            self.results[record["name"], record["seed"]] = record["result"]

    def _normal(self, name: str) -> Any:
        """The settings of `name` as they come back from JSON, where tuples are lists."""
        return json.loads(json.dumps(self._settings(name)))

    def add(self, name: str, seed: int, result: dict[str, Any]) -> None:
        """Log one finished run."""
        record = {"name": name, "seed": seed, "settings": self._settings(name), "result": result}
        append_line(self._path, json.dumps(record, sort_keys=True))
        self.results[name, seed] = json.loads(json.dumps(result))

    def forget(self, name: str, seed: int) -> None:
        """Have a run done again, for instance because a file that belongs to it is gone."""
        self.results.pop((name, seed), None)

    def close(self) -> None:
        """Let go of the file."""
        self._lock.close()
