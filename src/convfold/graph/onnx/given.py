"""Shapes that a caller gives for the inputs of a file, by name or in the file's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from convfold.errors import InvalidArgument

__all__ = ["GivenShapes", "named_shapes"]

GivenShapes = Mapping[str, Sequence[int]] | Sequence[Sequence[int]]


def named_shapes(model: ir.Model, given: GivenShapes, where: str) -> dict[str, tuple[int, ...]]:
    """The shapes by the names of the inputs of the file `where`; in their order, the last ones may be missing.

    Raises InvalidArgument for a name that no input has, and for more shapes than there are inputs.
    """
    names = [value.name or "" for value in model.graph.inputs if value.name not in model.graph.initializers]
    if not isinstance(given, Mapping):
        if len(given) > len(names):
            raise InvalidArgument(
                "there are more shapes than inputs", where=where, got=len(given), expected=f"one for {_listed(names)}"
            )
        return {name: tuple(shape) for name, shape in zip(names, given, strict=False)}
    for name in given:
        if name not in names:
            raise InvalidArgument("no input has this name", where=where, got=repr(name), expected=_listed(names))
    return {name: tuple(shape) for name, shape in given.items()}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none, as it has no inputs"
