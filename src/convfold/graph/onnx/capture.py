"""From an ONNX model to the neutral program."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from convfold.errors import Refusal
from convfold.graph.captured import Constant, Ref
from convfold.graph.onnx import words
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.constants import FileConstants
from convfold.graph.onnx.nodes import VIEWS, is_standard, opset_of, opsets, reads
from convfold.graph.onnx.places import place_of
from convfold.graph.onnx.products import macs_of
from convfold.graph.onnx.reading import WORDS, Reading
from convfold.graph.onnx.shapes import Shape, Shapes, input_shapes
from convfold.graph.onnx.types import dtype_of
from convfold.graph.onnx.words.views import view_operation
from convfold.graph.operation import Meta
from convfold.graph.program import Linear, Node, Opaque, Place, Program, Spatial, Value, is_identity
from convfold.graph.rules.channels import picked
from convfold.graph.rules.views import Views

__all__ = ["capture"]

assert words  # importing it registers the words
# Nodes that a runtime removes, or that only say anew how memory is read.
_FREE = {"Cast", "CastLike", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"}


def capture(model: ir.Model, inputs: dict[str, Shape] | None = None) -> CapturedFile:
    """The program of a model's main graph; `inputs` gives example shapes by name, others are chosen.

    Sizes that the file leaves open are seen at two values, so what is found holds for all. Nodes without a word
    of their own (functions of the file, other domains, control flow) are opaque. Raises InvalidArgument for shapes
    that the file does not take.
    """
    version = opset_of(model.opset_imports)
    constants = FileConstants(model, version)
    example, elsewhere = input_shapes(model, constants, inputs)
    shapes = Shapes(constants, opsets(model.opset_imports), example == elsewhere)
    return _Capture(model, version, shapes, example, elsewhere).run()


class _Capture:
    def __init__(
        self, model: ir.Model, version: int, shapes: Shapes, example: dict[str, Shape], elsewhere: dict[str, Shape]
    ) -> None:
        self.model, self.version, self.shapes, self.constants = model, version, shapes, shapes.constants
        self.example, self.elsewhere = example, elsewhere
        self.program = Program()
        self.numbers: dict[str, int] = {}
        self.nodes: dict[int, ir.Node] = {}
        self.metas: dict[int, Meta] = {}
        self.refusals: list[Refusal] = []
        self.views = Views(lambda ref: shapes.sizes.pairs(self.metas[ref.value].dims))

    def run(self) -> CapturedFile:
        for value in self.model.graph.inputs:
            name = value.name or ""
            if name in self.example:
                self.shapes.input(value, self.example[name], self.elsewhere[name])
            elif value in self.constants:
                continue
            elif value.const_value is not None:
                shape = tuple(int(size) for size in value.const_value.shape)
                self.shapes.input(value, shape, shape)
            self._add(name, value, lambda number: None, Place("input"), 0)
        for node in self.model.graph:
            self._node(node)
        names = {number: name for name, number in self.numbers.items()}
        self.program.outputs = tuple(
            dict.fromkeys(self.numbers[v.name or ""] for v in self.model.graph.outputs if v.name in self.numbers)
        )
        sizes = {number: self.shapes.sizes.pairs(meta.dims) for number, meta in self.metas.items()}
        opened = any(self.example[name][2:] != self.elsewhere[name][2:] for name in self.example)
        return CapturedFile(
            model=self.model,
            program=self.program,
            names=names,
            nodes=self.nodes,
            sizes=sizes,
            tensor=self.constants,
            known=dict(self.shapes.following),
            alive=self._alive(),
            open=opened,
            example=self.example,
            elsewhere=self.elsewhere,
            refusals=self.refusals,
        )

    # --- values

    def _add(
        self, name: str, value: ir.Value | None, define: Callable[[int], Node | None], place: Place, count: int
    ) -> int:
        dims = self.shapes.dims.get(name, ()) if name else ()
        dtype = dtype_of(self.shapes.dtypes.get(name, None if value is None else value.dtype)) if name else torch.uint8
        number = len(self.program.values)
        self.metas[number] = Meta(dims, dtype)
        node = define(number)
        shape = self.shapes.sizes.concrete(dims)
        self.program.add(Value(shape, str(dtype).removeprefix("torch."), place), node)
        if node is not None:
            self.program.operators[number] = count
        if name:
            self.numbers[name] = number
        return number

    def _node(self, node: ir.Node) -> None:
        if self.constants.note(node) or self.shapes.follows_sizes(node):
            return
        self.shapes.infer(node)
        place = place_of(node)
        if node.op_type == "Split" and is_standard(node) and self._split(node, place):
            return
        results = [value for value in node.outputs if value.name and (value.uses() or value.is_graph_output())]
        count = 0 if node.op_type in _FREE else 1
        if results == [node.outputs[0]]:
            value = results[0]
            number = self._add(value.name or "", value, lambda n: self._define(node, value, n, count), place, count)
            self.nodes[number] = node
            self.program.operators[number] = self._executed(number, value.is_graph_output())
            self._note_view(node, value, number)
            return
        whole = self._add("", None, lambda n: self._opaque(node, count), place, count)
        self.nodes[whole] = node
        for value in results:
            number = self._add(value.name or "", value, lambda n: Opaque((whole,), operators=0), place, 0)
            self.nodes[number] = node

    def _executed(self, number: int, is_output: bool) -> int:
        """The operators that a value takes: views that are seen as one selection take all of theirs."""
        found, count = self.program.nodes[number], self.program.operators[number]
        if not isinstance(found, Linear) or self.nodes[number].op_type not in VIEWS:
            # A runtime removes a copy, but not one that has a name of its own.
            return 1 if is_output and is_identity(found) else count
        above = self.numbers[self.nodes[number].inputs[0].name]  # type: ignore[index,union-attr]
        while above != found.terms[0].source:
            count += self.program.operators[above]
            above = self.numbers[self.nodes[above].inputs[0].name]  # type: ignore[index,union-attr]
        return count

    def _define(self, node: ir.Node, value: ir.Value, number: int, count: int) -> Node:
        found = self._worded(node, value, number)
        if found is None:
            return self._opaque(node, count)
        # A repeated view is priced as this one is.
        return replace(found, free=False) if isinstance(found, Spatial) and count else found

    def _worded(self, node: ir.Node, value: ir.Value, number: int) -> Node | None:
        word = WORDS.get(node.op_type) if is_standard(node) else None
        if word is None or not self._is_readable(node, value):
            return None
        return word(self._reading(node, value, number))

    def _is_readable(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether the result is floating point, and shapes are known: its own and those of all values that are read."""
        name = value.name or ""
        if name not in self.shapes.dims or not dtype_of(self.shapes.dtypes.get(name)).is_floating_point:
            return False
        values = [v.name or "" for v in node.inputs if v is not None and v.name in self.numbers]
        return all(name in self.shapes.dims for name in values) and self._is_plain(node)

    def _is_plain(self, node: ir.Node) -> bool:
        """Whether no size is zero: nothing is computed of such a tensor, and nothing divides it."""
        # What an operator may be given instead is left out by a constant without elements as well.
        given = node.inputs[:1] if node.op_type == "Resize" else node.inputs
        tensors = [v for v in (*given, *node.outputs) if v is not None and v.name]
        shapes = [self.shapes.shape(v, 0) for v in tensors if v.name in self.shapes.dims or v in self.constants]
        return all(shape is None or math.prod(shape) > 0 for shape in shapes)

    def _reading(self, node: ir.Node, value: ir.Value, number: int) -> Reading:
        inputs = tuple(self._argument(given) for given in node.inputs)
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        return Reading(
            node, number, self.version, inputs, self.metas[number], self._meta, self.shapes, self.constants, self.views
        )

    def _argument(self, value: ir.Value | None) -> Any:
        if value is None:
            return None
        if value in self.constants:
            return Constant(value.name)
        return Ref(self.numbers[value.name]) if value.name in self.numbers else value

    def _meta(self, argument: Ref | Constant) -> Meta:
        if isinstance(argument, Ref):
            return self.metas[argument.value]
        return Meta(*self.constants.meta(str(argument.key)))

    def _opaque(self, node: ir.Node, count: int) -> Opaque:
        read = [self.numbers[v.name] for v in reads(node) if v.name in self.numbers]
        macs, convolutions = macs_of(node, self.shapes)
        if node.op_type in ("Conv", "ConvTranspose"):
            self._refuse(node)
        return Opaque(tuple(dict.fromkeys(read)), macs, convolutions, count)

    def _refuse(self, node: ir.Node) -> None:
        names = ("input", "weight", "bias")
        loose = [name for name, v in zip(names, node.inputs, strict=False) if v is not None and v not in self.constants]
        why = [name for name in loose if name != "input"]
        reason = f"its {why[0]} is not a proven constant" if why else "its padding follows the size of the input"
        self.refusals.append(Refusal(node.op_type, reason, place_of(node).module))

    def _split(self, node: ir.Node, place: Place) -> bool:
        """The parts of a Split as selections; False where their sizes are not known."""
        source = self._argument(node.inputs[0])
        parts = [value for value in node.outputs if value.name]
        if not isinstance(source, Ref) or any(not self._is_readable(node, value) for value in parts):
            return False
        rank = len(self.metas[source.value].dims)
        axis = node.attributes["axis"].as_int() % rank if "axis" in node.attributes else 0
        widths = [self.shapes.dims[value.name or ""][axis] for value in node.outputs if value.name]
        if axis == 0 or len(parts) < len(node.outputs) or not all(isinstance(width, int) for width in widths):
            return False
        start = 0
        for value, width in zip(parts, widths, strict=True):
            index = tuple(range(start, start + width))
            start += width

            def define(number: int, value: ir.Value = value, index: tuple[int, ...] = index) -> Node:
                op = self._reading(node, value, number).operation("split", {"self": source})
                return picked(op, source, axis, index) or self._opaque(node, 1)

            # Each part counts as an operator: alone it is a Slice.
            self.nodes[self._add(value.name or "", value, define, place, 1)] = node
        return True

    def _note_view(self, node: ir.Node, value: ir.Value, number: int) -> None:
        if isinstance(self.program.nodes[number], Linear) or not self._is_readable(node, value):
            return
        operation = view_operation(self._reading(node, value, number))
        if operation is not None:
            self.views.note(operation)

    # --- sizes that are read

    def _alive(self) -> frozenset[int]:
        """The values whose size is read for more than can be told from the inputs' sizes."""
        found: set[int] = set()
        follow = self.shapes.following
        ends = [
            value
            for node in self.model.graph
            if any((v.name or "") in self.numbers for v in node.outputs)
            for value in reads(node)
            if value.name in follow
        ]
        ends += [value for value in self.model.graph.outputs if value.name in follow]
        for value in ends:
            if not self._is_told(follow[value.name or ""]):
                found |= self._measured(value)
        return frozenset(found)

    def _is_told(self, known: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]) -> bool:
        """Whether every number is the same for all inputs, or a size of an input."""
        one, two = known
        if one.dtype.kind != "i" or one.ndim > 1:
            return False
        sizes = {pair for name in self.example for pair in zip(self.example[name], self.elsewhere[name], strict=True)}
        pairs = zip(one.reshape(-1).tolist(), two.reshape(-1).tolist(), strict=True)
        return all(a == b or (a, b) in sizes for a, b in pairs)

    def _measured(self, value: ir.Value) -> set[int]:
        """The values whose shapes a size is computed from."""
        found: set[int] = set()
        stack, seen = [value], set()
        while stack:
            node = stack.pop().producer()
            if node is None or id(node) in seen:
                continue
            seen.add(id(node))
            if node.op_type in ("Shape", "Size"):
                found |= {self.numbers[v.name] for v in node.inputs if v is not None and v.name in self.numbers}
            else:
                stack += [v for v in node.inputs if v is not None]
        return found
