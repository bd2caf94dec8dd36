"""The sizes at which two files are compared."""

from __future__ import annotations

import os

from convfold.graph.onnx.constants import FileConstants
from convfold.graph.onnx.given import GivenShapes, named_shapes
from convfold.graph.onnx.nodes import opset_of
from convfold.graph.onnx.read import read
from convfold.graph.onnx.shapes import input_shapes, probe_shapes

__all__ = ["sizes_to_compare"]


def sizes_to_compare(path: str | os.PathLike[str], given: GivenShapes = ()) -> list[dict[str, tuple[int, ...]]]:
    """Shapes for each input of the file: those given, others as they are chosen, and further ones that it leaves open.

    Raises InvalidArgument for shapes that the file does not take, and what `read` raises.
    """
    model = read(path)
    constants = FileConstants(model, opset_of(model.opset_imports))
    for node in model.graph:
        constants.note(node)
    example, _ = input_shapes(model, constants, named_shapes(model, given, os.fspath(path)))
    return probe_shapes(model, example)
