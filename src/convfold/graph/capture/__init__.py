"""The torch frontend: a model as a neutral program, by torch.export."""

from __future__ import annotations

from convfold.graph.capture.below import capture_below
from convfold.graph.capture.checks import check_tensors
from convfold.graph.capture.copying import is_of_export
from convfold.graph.capture.steps import bind, evaluate, functional, interpret
from convfold.graph.capture.whole import capture

__all__ = ["bind", "capture", "capture_below", "check_tensors", "evaluate", "functional", "interpret", "is_of_export"]
