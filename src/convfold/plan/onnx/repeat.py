"""The node of one value on another source: what a definition that is like another's executes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convfold.errors import NotFoldable, Refusal
from convfold.graph.program import Elementwise, Spatial
from convfold.plan.onnx.sizes import known_sizes, written_sizes
from convfold.plan.onnx.target import Target

__all__ = ["write_repeated"]

# Nodes that are given the shape of their result, and the input where it stands.
_SHAPED = {"Reshape": 1, "Expand": 1, "Resize": 3}


def write_repeated(at: Target, node: Spatial | Elementwise) -> ir.Value:
    """The operator of the value that `node` is like, on its own source and with its own number of channels.

    Raises NotFoldable where it is given the shape of its result in a way that cannot be written anew.
    """
    writer, like = at.writer, node.like
    captured = writer.captured
    original = captured.nodes[like]
    twin = writer.twins[original]
    before = captured.program.nodes[like]
    assert isinstance(before, (Spatial, Elementwise))
    source = captured.names[before.source]
    places = [place for place, value in enumerate(original.inputs) if value is not None and value.name == source]
    inputs = list(twin.inputs)
    for place in places or [0]:
        inputs[place] = at.source(node.source)
    shaped = _SHAPED.get(twin.op_type, len(inputs))
    given = inputs[shaped] if shaped < len(inputs) else None
    if given is not None:
        inputs[shaped] = _shape(at, like, twin, given)
    again = ir.Node(
        twin.domain,
        twin.op_type,
        inputs,
        list(twin.attributes.values()),
        overload=twin.overload,
        num_outputs=1,
        version=twin.version,
        metadata_props=dict(twin.metadata_props),
    )
    return writer.put(again, at.name)


def _shape(at: Target, like: int, twin: ir.Node, given: ir.Value) -> ir.Value:
    """The shape that the node is given, with this value's width where it says the width of the value it is like."""
    old = at.writer.captured.program.values[like].shape
    differs = [axis for axis, (a, b) in enumerate(zip(old, at.shape, strict=True)) if a != b]
    if not differs:
        return given
    known = known_sizes(at.writer, given)
    if known is None:
        raise NotFoldable(Refusal(twin.op_type, "it is given a shape that is not known", at.name))
    one, two = (np.array(array) for array in known)
    for axis in differs:
        place = _entry(twin, axis, len(old), len(one))
        # Zero and minus one say what the source says, and so does a one where more is expanded.
        if place is not None and one[place] == two[place] == old[axis]:
            one[place] = two[place] = at.shape[axis]
    if all(np.array_equal(a, b) for a, b in zip((one, two), known, strict=True)):
        return given
    found = written_sizes(at.writer, (one, two), given.dtype, f"{at.name}_shape")
    if found is None:
        raise NotFoldable(Refusal(twin.op_type, "it is given a shape that no input has", at.name))
    return found


def _entry(twin: ir.Node, axis: int, rank: int, length: int) -> int | None:
    """Where the given shape says the size of an axis."""
    axes = twin.attributes.get("axes")
    if axes is not None:
        listed = [a % rank for a in axes.as_ints()]
        return listed.index(axis) if axis in listed else None
    place = axis - (rank - length)
    return place if place >= 0 else None
