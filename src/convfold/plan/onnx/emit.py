"""A planned program as an ONNX model: what is unchanged stays, what is changed is written in its place."""

from __future__ import annotations

import onnx_ir as ir

from convfold.errors import NotFoldable, Refusal
from convfold.graph.maps import is_pointwise
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.program import Concat, Elementwise, Linear, Node, Program, Spatial
from convfold.graph.sizes import Pair
from convfold.plan.onnx.prune import prune
from convfold.plan.onnx.repeat import write_repeated
from convfold.plan.onnx.sums import write_sum
from convfold.plan.onnx.target import Target
from convfold.plan.onnx.tensors import float_type
from convfold.plan.onnx.writer import Writer

__all__ = ["emit"]


def emit(captured: CapturedFile, after: Program) -> ir.Model:
    """A model that computes `after`: a new one, `captured.model` stays as it is.

    Nodes of unchanged definitions stay, values keep their names, also as outputs; graph inputs and outputs, opset
    imports, metadata, functions and subgraphs stay. Tensors of the file are shared, new weights computed when the
    model is serialised. Raises NotFoldable for a definition that ONNX has no nodes for.
    """
    writer = Writer(captured, after)
    idle = {name for name, value in writer.graph.initializers.items() if not value.uses()}
    for number in after.live(sorted(captured.alive)):
        _write(writer, number)
    prune(writer, idle)
    try:
        writer.graph.sort()
    except ValueError as error:
        raise NotFoldable(Refusal("region", "its definitions would need each other")) from error
    return writer.model


def _write(writer: Writer, number: int) -> None:
    """Bring one value into the graph; its sources are there."""
    captured, name = writer.captured, writer.captured.names.get(number)
    node = writer.after.nodes.get(number)
    if node is None or node is captured.program.nodes.get(number):
        # A node of several results is no tensor itself.
        if name is not None:
            writer.of[number] = writer.values[name]
        return
    old = None if name is None else writer.values[name]
    value = writer.after.values[number]
    base = name or writer.fresh(_neighbour(writer, node))
    at = Target(writer, number, base, value.shape, float_type(value.dtype))
    new = _definition(at, node)
    if not writer.is_new(new):
        if old is None or not old.is_graph_output():
            # It is another value, which can be read in its place.
            if old is not None:
                old.replace_all_uses_with(new)
            writer.of[number] = new
            return
        new = at.node("Identity", [new])
    _describe(writer, at, node, new)
    place = writer.of[node.inputs[0]].producer() if old is None else old.producer()
    writer.place(place, base)
    if old is None:
        new.name = base
    else:
        writer.take_over(old, new)
    writer.of[number] = new


def _definition(at: Target, node: Node) -> ir.Value:
    if isinstance(node, Linear):
        return write_sum(at, node)
    if isinstance(node, Concat):
        return at.node("Concat", [at.source(piece) for piece in node.pieces], {"axis": node.axis})
    if isinstance(node, (Spatial, Elementwise)):
        return write_repeated(at, node)
    raise NotFoldable(Refusal("region", "an operator that is not known was to be moved", at.name))


def _neighbour(writer: Writer, node: Node) -> str:
    """A name for a new value: after the value whose operator it repeats, or after what it is computed from."""
    if isinstance(node, (Spatial, Elementwise)) and node.like in writer.captured.names:
        return f"{writer.captured.names[node.like]}_moved"
    return f"{writer.of[node.inputs[0]].name}_{'joined' if isinstance(node, Concat) else 'folded'}"


def _describe(writer: Writer, at: Target, node: Node, value: ir.Value) -> None:
    """Note type and shape of a value, as far as its sizes are known for all inputs."""
    pairs = writer.captured.sizes.get(at.number) or _pairs(writer, at, node)
    if pairs is not None:
        writer.sizes[at.number] = pairs
        value.type, value.shape = ir.TensorType(at.dtype), writer.shape(pairs)


def _pairs(writer: Writer, at: Target, node: Node) -> tuple[Pair, ...] | None:
    """The sizes of a new value: those of what it repeats or of its source, but for the channels."""
    if isinstance(node, (Spatial, Elementwise)):
        like = writer.sizes.get(node.like)
        axes = [axis for axis, _ in enumerate(like or ()) if at.shape[axis] != like[axis][0]] if like else []
    else:
        like = writer.sizes.get(node.inputs[0])
        maps = [term.map for term in node.terms] if isinstance(node, Linear) else []
        if any(not is_pointwise(m) for m in maps):
            return None
        axes = [node.axis] if isinstance(node, Concat) else [m.axis for m in maps if m.axis is not None]
    if like is None or len(like) != at.rank:
        return None
    return tuple((at.shape[axis],) * 2 if axis in axes else pair for axis, pair in enumerate(like))
