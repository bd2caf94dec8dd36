"""A model as a call that does nothing but run it: what is timed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import onnxruntime

from convfold.errors import InvalidArgument
from convfold.graph.onnx.evaluate_numbers import Array
from convfold.graph.onnx.read_parts import one_line
from convfold.verify.onnx.session import Session

__all__ = ["runner"]

# Errors only that end the process; what matters is raised.
_QUIET = 4


def runner(model: str | os.PathLike[str] | bytes, feeds: Mapping[str, Array], threads: int) -> Callable[[], object]:
    """One run on `feeds` in ONNX Runtime, on the CPU, with all its optimisations.

    The first run is done here and watched for its end, as those of `run_file` are. Raises InvalidArgument when ONNX
    Runtime refuses the model or does not run it on `feeds`, or without end.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = _QUIET
    content = model if isinstance(model, bytes) else os.path.abspath(model)
    where = "the model" if isinstance(model, bytes) else os.fspath(model)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidArgument("ONNX Runtime refuses the model", where=where, got=one_line(error)) from error
    held = dict(feeds)
    Session(session, where).run(held)
    return lambda: session.run(None, held)
