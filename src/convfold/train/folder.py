"""What a training keeps in its folder, and that no other one writes there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

from convfold.errors import FileProblem
from convfold.files import append_line, output_folder, remove_leftovers, write_text

try:
    import fcntl
except ImportError:  # Windows has no flock: there two trainings in one folder are the user's to avoid.
    fcntl = None  # type: ignore[assignment]

__all__ = ["Folder"]

_held: WeakSet[IO[bytes]] = WeakSet()


def _let_go() -> None:
    """In a child: one that reads pictures outlives a killed training by seconds, and is not to hold its lock."""
    for lock in list(_held):
        lock.close()


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go)


@dataclass
class Folder:
    """The folder of one training. `open` locks it until `close`; only the first process of a training does.

    checkpoint.safetensors: after the last whole epoch. settings.json: what the training was begun with. metrics.jsonl:
    one line per epoch. tensorboard/: the same for TensorBoard. curves.png: as a picture. At the end final.safetensors
    (as trained), folded.safetensors with plan.json (as folded), folded.onnx, and result.json.
    """

    root: Path
    _lock: IO[bytes] | None = None

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint.safetensors"

    @property
    def settings(self) -> Path:
        return self.root / "settings.json"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def curves(self) -> Path:
        return self.root / "curves.png"

    @property
    def final(self) -> Path:
        return self.root / "final.safetensors"

    @property
    def folded(self) -> Path:
        return self.root / "folded.safetensors"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def onnx(self) -> Path:
        return self.root / "folded.onnx"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    def open(self) -> None:
        """Make it, lock it, and remove what a killed training left half-written beside its files.

        Raises FileProblem when it cannot be written, or when another training writes there.
        """
        output_folder(self.root)
        if fcntl is not None:
            lock = (self.root / ".lock").open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.close()
                raise FileProblem(
                    "another training writes here",
                    where=str(self.root),
                    hint="Wait for it, or choose another folder with --out.",
                ) from error
            except OSError:
                # No locks on this file system, as on some of networks: the user's to avoid there too.
                lock.close()
            else:
                self._lock = lock
                _held.add(lock)
        remove_leftovers([self.root])

    def close(self) -> None:
        """Let others write."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_json(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write `content`, whole or not at all."""
        write_text(path, json.dumps(content, indent=1) + "\n")

    def log(self, record: Mapping[str, Any]) -> None:
        """One more line of metrics."""
        append_line(self.metrics, json.dumps(record))

    def rewrite_log(self, records: Iterable[Mapping[str, Any]]) -> None:
        """The metrics as they were after these records: what a killed training logged beyond is made again."""
        write_text(self.metrics, "".join(json.dumps(record) + "\n" for record in records))
