"""Running a file in ONNX Runtime, on the CPU, with all its optimisations unless told otherwise."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch

from convfold.errors import FileProblem, InvalidArgument
from convfold.graph.onnx.evaluate_numbers import Array
from convfold.graph.onnx.read_parts import one_line, printable

__all__ = ["Session", "Signature", "open_session", "run_file"]

# After this a run is ended: a loop in the file may have no end.
SECONDS = 600.0
# Errors only that end the process; what matters is raised.
_QUIET = 4


@dataclass(frozen=True)
class Signature:
    """An input or an output of a file: its name, its type as ONNX Runtime writes it, its shape as far as said."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]


def run_file(model: str | os.PathLike[str] | bytes, feeds: Mapping[str, Array]) -> dict[str, Any]:
    """The outputs of an ONNX file (its path, or its bytes if it has no external data), by name.

    Raises InvalidArgument when ONNX Runtime is not installed, refuses the model or does not run it on `feeds`.
    """
    with open_session(model) as session:
        return session.run(feeds)


class Session:
    """A file in ONNX Runtime, made by `open_session`."""

    def __init__(self, session: Any, where: str) -> None:
        self._session, self._where = session, where
        self.inputs = [_signature(value) for value in session.get_inputs()]
        self.outputs = [_signature(value) for value in session.get_outputs()]

    def close(self) -> None:
        """Free the model, whoever still holds this object."""
        self._session = None

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Any]:
        """The outputs by name. Raises InvalidArgument when the model does not run on `feeds`, or without end."""
        import onnxruntime  # noqa: PLC0415

        options = onnxruntime.RunOptions()
        options.log_severity_level = _QUIET
        late = threading.Event()

        def stop() -> None:
            late.set()
            options.terminate = True

        timer = threading.Timer(SECONDS, stop)
        timer.daemon = True
        timer.start()
        try:
            found = self._session.run(None, dict(feeds), options)
        except Exception as error:
            if late.is_set():
                raise InvalidArgument(
                    "the model did not come to an end", where=self._where, got=f"{SECONDS:g} seconds",
                    hint="It may hold a loop without end.",
                ) from error  # fmt: skip
            raise InvalidArgument(
                "ONNX Runtime does not run the model on these inputs", where=self._where, got=one_line(error)
            ) from error
        finally:
            timer.cancel()
        return dict(zip((value.name for value in self.outputs), found, strict=True))


def _signature(value: Any) -> Signature:
    return Signature(value.name, value.type, tuple(value.shape or ()))


@contextmanager
def open_session(
    model: str | os.PathLike[str] | bytes, *, optimised: bool = True, lean: bool = False
) -> Iterator[Session]:
    """A session with the model, freed at the end of the block.

    With `lean`, weights are neither folded nor copied into other layouts, which takes less memory and more time.

    Raises InvalidArgument when ONNX Runtime is not installed or refuses the model, FileProblem when there is none.
    """
    if find_spec("onnxruntime") is None:
        raise InvalidArgument("ONNX Runtime is not installed", hint="pip install 'convfold[onnx]'.")
    import onnxruntime  # noqa: PLC0415

    where = "the model" if isinstance(model, bytes) else os.fspath(model)
    if not isinstance(model, bytes) and not os.path.isfile(model):
        raise FileProblem("no such file", where=where)
    onnxruntime.set_default_logger_severity(_QUIET)  # of allocators, which know no session
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised and not lean else levels.ORT_DISABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _QUIET
    if lean:
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.disable_prepacking", "1")
    content = model if isinstance(model, bytes) else os.path.abspath(model)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        opened = Session(session, where)
    except Exception as error:
        raise InvalidArgument(
            "ONNX Runtime refuses the model", where=printable(where, 200), got=one_line(error)
        ) from error
    del session
    try:
        yield opened
    finally:
        opened.close()
