"""What a fold of a file is weighed by: nodes counted, or timed in ONNX Runtime on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.nodes import opset_of
from convfold.plan.onnx.price import pricer
from convfold.plan.onnx.stopwatch import FileStopwatch
from convfold.plan.search.price import Pricer

__all__ = ["pricing"]


@contextmanager
def pricing(captured: CapturedFile, objective: str) -> Iterator[Pricer]:
    """The prices for an objective: with seconds for "latency"; times that were taken are kept when the block ends."""
    if objective != "latency":
        yield pricer(captured.open, opset_of(captured.model.opset_imports))
        return
    stopwatch = FileStopwatch(captured)
    try:
        yield stopwatch
    finally:
        stopwatch.save()
