"""Damaged ONNX files as a job for another process, which a crash or a hang ends and no one else."""

from __future__ import annotations

import resource
import signal
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from convfold.errors import ConvfoldError, ConvfoldWarning
from convfold.graph.onnx.read import read
from convfold.transform.fold_onnx import fold_onnx
from convfold.verify.onnx import session, verify_files
from support.onnx_mutations import damaged
from support.onnx_seeds import external_data

__all__ = ["FuzzJob", "try_file"]

# Seconds for one file, and for one run of it in ONNX Runtime; bytes that a worker may take.
LIMIT, RUN = 60.0, 10.0
MEMORY = 12 * 2**30


def try_file(seed: int, folder: Path) -> str:
    """Read, run and fold one damaged file: "refused: ..." with the beginning of the sentence, or what came of it.

    Whatever is not a sentence is raised.
    """
    path, out = folder / "model.onnx", folder / "folded.onnx"
    path.write_bytes(damaged(seed))
    (folder / "w.bin").write_bytes(external_data())
    (folder / "link").symlink_to("/etc/passwd")
    stage = "read"
    try:
        model = read(path)
        stage = "run"
        verify_files(path, path, [_sizes(model)])
    except ConvfoldError as error:
        _check_sentence(error)
        if stage == "read":
            return f"{stage} refused: {type(error).__name__}"
    found = _folded(path, out)
    expected = {"model.onnx", "w.bin", "link", *(("folded.onnx", "folded.onnx.data") if found == "folded" else ())}
    left = {entry.name for entry in folder.iterdir()} - expected
    assert not left, f"left behind: {sorted(left)}"
    return found


def _folded(path: Path, out: Path) -> str:
    try:
        fold_onnx(path, out)
    except ConvfoldError as error:
        _check_sentence(error)
        return f"fold refused: {type(error).__name__}"
    onnx.checker.check_model(str(out), full_check=True)
    return "folded"


def _sizes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    return {
        value.name or "": tuple(n if isinstance(n, int) else 6 for n in value.shape or ())
        for value in model.graph.inputs
    }


def _check_sentence(error: ConvfoldError) -> None:
    text = str(error)
    assert "\n" not in text, f"more than a line: {text!r}"
    assert len(text) < 1000, f"no sentence: {text[:1000]!r}"
    assert text.endswith((".", "?")), f"no sentence: {text!r}"


@dataclass(frozen=True)
class FuzzJob:
    """The files of these seeds; tells each seed before it starts, and after it ``(outcome, failure)``."""

    seeds: range

    def run(self, tell: Callable[[Any], None]) -> None:
        session.SECONDS = RUN
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        warnings.simplefilter("error", ConvfoldWarning)
        # Not handled: a library that hangs does not come back to run a handler.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        for seed in self.seeds:
            tell(seed)
            signal.setitimer(signal.ITIMER_REAL, LIMIT)
            outcome, failure = "failed", ""
            try:
                with tempfile.TemporaryDirectory() as name:
                    outcome = try_file(seed, Path(name))
            except Exception as error:
                failure = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            tell((outcome, failure))

    def __str__(self) -> str:
        return f"seeds {self.seeds.start} to {self.seeds.stop - 1}"
