"""Sizes that nodes read, written anew over the shapes of the graph's inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from convfold.graph.sizes import Pair
from convfold.plan.onnx.writer import Writer

__all__ = ["known_sizes", "written_sizes"]


def known_sizes(writer: Writer, value: ir.Value) -> tuple[np.ndarray, np.ndarray] | None:
    """What a tensor that is no value of the program holds at both points: it follows from sizes or is constant."""
    name = value.name or ""
    if name in writer.numbers:
        return None
    if name not in writer.captured.known:
        array = writer.captured.tensor(name, None).numpy()
        return array, array
    return writer.captured.known[name]


def written_sizes(
    writer: Writer, known: tuple[np.ndarray, np.ndarray], dtype: ir.DataType | None, base: str
) -> ir.Value | None:
    """The same integers from constants and from the shapes of the graph's inputs; None where those do not say it.

    The nodes are pending (see `Writer.place`).
    """
    one, two = (np.asarray(array) for array in known)
    if one.shape != two.shape or (one.ndim > 1 and not np.array_equal(one, two)):
        return None
    kind = dtype or ir.DataType.from_numpy(one.dtype)
    if np.array_equal(one, two):
        return writer.constant(one.astype(kind.numpy()), base)
    pairs = list(zip(one.reshape(-1).tolist(), two.reshape(-1).tolist(), strict=True))
    places = [None if a == b else _place(writer, (a, b)) for a, b in pairs]
    if any(place is None and a != b for place, (a, b) in zip(places, pairs, strict=True)):
        return None
    if one.ndim == 0:
        assert places[0] is not None
        found = _gathered(writer, places[0][0], places[0][1], base)
    else:
        pieces = _pieces(writer, pairs, places, base)
        found = pieces[0] if len(pieces) == 1 else writer.node("Concat", pieces, {"axis": 0}, base=base)
    return found if kind == ir.DataType.INT64 else writer.node("Cast", [found], {"to": int(kind)}, base=base)


def _place(writer: Writer, pair: Pair) -> tuple[str, int] | None:
    """An input and its axis of that size."""
    for name, sizes in writer.captured.example.items():
        for axis, found in enumerate(zip(sizes, writer.captured.elsewhere[name], strict=True)):
            if found == pair:
                return name, axis
    return None


def _gathered(writer: Writer, name: str, axes: Sequence[int] | int, base: str) -> ir.Value:
    shape = writer.shape_of(name)
    return writer.node("Gather", [shape, writer.integers(axes, f"{base}_axes")], {"axis": 0}, base=base)


def _pieces(writer: Writer, pairs: list[Pair], places: list[tuple[str, int] | None], base: str) -> list[ir.Value]:
    """Runs of constants, and of sizes of one input."""
    runs: list[tuple[str | None, list[int]]] = []
    for (size, _), place in zip(pairs, places, strict=True):
        name, number = (None, size) if place is None else place
        if runs and runs[-1][0] == name:
            runs[-1][1].append(number)
        else:
            runs.append((name, [number]))
    return [
        writer.integers(numbers, f"{base}_sizes") if name is None else _gathered(writer, name, numbers, base)
        for name, numbers in runs
    ]
