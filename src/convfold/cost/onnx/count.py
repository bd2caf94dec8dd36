"""The cost of an ONNX file, as of a model: one row for each module that its exporter told, else for each node."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import onnx_ir as ir

from convfold.cost.onnx.field import Fields
from convfold.cost.onnx.layers import NodeLayer, node_layer
from convfold.cost.onnx.peak import Peak
from convfold.cost.onnx.rest import ALIASES, Sized, rest
from convfold.cost.onnx.windows import node_window
from convfold.cost.report import CostReport, Row
from convfold.cost.what_if.places import PlacedLayer
from convfold.geometry import Window
from convfold.graph.onnx.constants import FileConstants
from convfold.graph.onnx.given import GivenShapes, named_shapes
from convfold.graph.onnx.nodes import is_standard, opset_of, opsets, reads
from convfold.graph.onnx.places import place_of
from convfold.graph.onnx.products import macs_of
from convfold.graph.onnx.read import read
from convfold.graph.onnx.shapes import Shapes, input_shapes

__all__ = ["FileCost", "cost_file", "stated_shapes"]

Shape = tuple[int, ...]
_WINDOWED = ("AveragePool", "Conv", "LpPool", "MaxPool")
# Nothing is executed: a view, or what a runtime removes.
_FREE = ALIASES | {"Cast", "CastLike"}
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class FileCost:
    """The report, the shapes of the inputs that it was counted at, and the layers that may have another form."""

    report: CostReport
    inputs: dict[str, Shape]
    layers: tuple[PlacedLayer, ...]


@dataclass
class _Tally:
    """What the nodes of one row execute."""

    kinds: list[str] = field(default_factory=list)
    told: str = ""
    figures: Counter[str] = field(default_factory=Counter)
    inputs: tuple[Shape, ...] = ()
    outputs: tuple[Shape, ...] = ()
    reach: Shape = ()
    layers: list[NodeLayer] = field(default_factory=list)


def stated_shapes(path: str | os.PathLike[str]) -> list[Shape]:
    """The shapes of the inputs that the file states without an open size; [] where one of them is open."""
    model = read(path)
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    if any(value.shape is None or not value.shape.is_static() for value in inputs):
        return []
    return [tuple(int(size) for size in value.shape or ()) for value in inputs]


def cost_file(path: str | os.PathLike[str], inputs: GivenShapes = ()) -> FileCost:
    """Count the ONNX file `path` at the shapes that `inputs` gives, by name or in the file's order.

    Sizes that the file leaves open and nobody gives are 1 for the batch, else those that images have. MACs are of
    convolutions, products and recurrent layers; FLOPs follow the rules of a torch model. Tensors are taken to live
    until the last node that reads them, in the file's order. Operators without a formula, those of other domains and
    those that hold graphs among them, are listed. Raises FileProblem and InvalidArgument for files and shapes that
    are wrong, in a sentence.
    """
    model = read(path)
    given = named_shapes(model, inputs, str(path))
    return _Count(model, given).run(Path(path).name)


class _Count:
    def __init__(self, model: ir.Model, given: dict[str, Shape]) -> None:
        self.model = model
        self.constants = FileConstants(model, opset_of(model.opset_imports))
        self.example, elsewhere = input_shapes(model, self.constants, given)
        self.shapes = Shapes(self.constants, opsets(model.opset_imports), self.example == elsewhere)
        for value in model.graph.inputs:
            if (value.name or "") in self.example:
                self.shapes.input(value, self.example[value.name or ""], elsewhere[value.name or ""])
        maps = [(name, shape) for name, shape in self.example.items() if len(shape) > 2]
        self.fields = Fields(maps[0][0], maps[0][1][2:]) if maps else None
        self.tallies: dict[str, _Tally] = {}
        self.uncounted: Counter[str] = Counter()
        self.held: set[str] = set()
        self.makers: dict[str, list[str]] = {}

    def run(self, name: str) -> FileCost:
        nodes = list(self.model.graph)
        last = {value.name or "": at for at, node in enumerate(nodes) for value in reads(node)}
        for at, node in enumerate(nodes):
            for value in node.outputs:
                last.setdefault(value.name or "", at)
        for value in self.model.graph.outputs:
            last.pop(value.name or "", None)
        peak = Peak(last)
        for at, node in enumerate(nodes):
            if self.constants.note(node) or self.shapes.follows_sizes(node):
                for value in node.outputs:
                    self.makers[value.name or ""] = [given.name or "" for given in reads(node)]
                continue
            self.shapes.infer(node)
            self._node(node)
            made = {value.name: self._bytes(value) for value in node.outputs if value.name}
            view = node.inputs[0].name if node.op_type in ALIASES and node.inputs and node.inputs[0] else None
            peak.see(at, [value.name or "" for value in reads(node)], made, view)
        return FileCost(self._report(name, peak.most), self.example, self._layers())

    # --- one node

    def _node(self, node: ir.Node) -> None:
        place = place_of(node)
        tally = self.tallies.setdefault(place.module, _Tally(told=place.kind))
        tally.kinds.append(node.op_type)
        read_shapes = [None if value is None else self.shapes.shape(value, 0) for value in node.inputs]
        given = [self.shapes.shape(value, 0) for value in node.outputs if value.name]
        tally.inputs = tally.inputs or tuple(shape for shape in read_shapes[:1] if shape is not None)
        tally.outputs = tuple(shape for shape in given[:1] if shape is not None)
        sized = Sized(node, read_shapes, given)
        macs, convolutions = macs_of(node, self.shapes)
        others = rest(sized) if is_standard(node) else None
        if others is None or (node.op_type in _PRODUCTS and None in (read_shapes[0], *given[:1])):
            self.uncounted[node.op_type if is_standard(node) else f"{node.domain}::{node.op_type}"] += 1
        free = node.op_type in _FREE
        made = 0 if node.op_type in ALIASES else sum(self._bytes(value) for value in node.outputs if value.name)
        params, weights = self._weights(node)
        moved = 0 if node.op_type in ALIASES else made + sum(self._bytes(v) for v in set(reads(node)))
        tally.figures.update(
            macs=macs, flops=2 * macs + (others or 0), convolutions=convolutions, operators=int(not free),
            params=params, weight_bytes=weights, activation_bytes=made, traffic_bytes=moved,
        )  # fmt: skip
        window = self._window(node, read_shapes, given)
        self._follow(node, tally, window, (read_shapes, given))
        if node.op_type in _PRODUCTS:
            tally.layers.append(node_layer(node, read_shapes, window, macs, convolutions))

    def _window(self, node: ir.Node, read: list[Shape | None], given: list[Shape | None]) -> Window | None:
        if node.op_type not in _WINDOWED or not is_standard(node):
            return None
        if not given or read[0] is None or given[0] is None:
            return None
        stated = tuple(node.attributes["kernel_shape"].as_ints()) if "kernel_shape" in node.attributes else ()
        weight = read[1] if node.op_type == "Conv" else None
        kernel = weight[2:] if weight is not None else stated
        return node_window(node, kernel, read[0][2:], given[0][2:]) if kernel else None

    def _follow(
        self,
        node: ir.Node,
        tally: _Tally,
        window: Window | None,
        shapes: tuple[list[Shape | None], list[Shape | None]],
    ) -> None:
        if self.fields is None:
            return
        outputs = [value.name for value in node.outputs if value.name]
        inputs = [value.name or "" for value in reads(node) if value not in self.constants]
        self.fields.see(node.op_type if is_standard(node) else "", inputs, outputs, shapes, window)
        tally.reach = self.fields.sizes(outputs)

    def _bytes(self, value: ir.Value) -> int:
        shape = self.shapes.shape(value, 0)
        dtype = self.shapes.dtypes.get(value.name or "", value.dtype)
        return 0 if shape is None else int(prod(shape) * (4 if dtype is None else dtype.itemsize))

    def _weights(self, node: ir.Node) -> tuple[int, int]:
        """Elements and bytes of the initialisers that a node is the first to read, through constant nodes as well."""
        stack = [value.name or "" for value in reads(node)]
        elements = size = 0
        while stack:
            name = stack.pop()
            stack += self.makers.pop(name, [])
            value = self.model.graph.initializers.get(name)
            if value is None or value.const_value is None or name in self.held:
                continue
            self.held.add(name)
            tensor = value.const_value
            size += int(tensor.nbytes)
            elements += int(tensor.size) if tensor.dtype.is_floating_point() else 0
        return elements, size

    # --- the report

    def _rows(self) -> tuple[Row, ...]:
        return tuple(
            Row(
                path=path, type=tally.told or "+".join(dict.fromkeys(tally.kinds)), inputs=tally.inputs,
                outputs=tally.outputs, receptive_field=tally.reach, **_plain(tally.figures),
            )
            for path, tally in self.tallies.items()
        )  # fmt: skip

    def _report(self, name: str, most: int) -> CostReport:
        rows = self._rows()
        tensors = [
            value.const_value for value in self.model.graph.initializers.values() if value.const_value is not None
        ]
        ends = [self.fields.sizes([v.name or ""]) for v in self.model.graph.outputs] if self.fields else []
        added = ("macs", "flops", "convolutions", "operators", "activation_bytes", "traffic_bytes")
        paths = {row.path: row.path for row in rows}
        return CostReport(
            model=name,
            rows=rows,
            params=sum(int(t.size) for t in tensors if t.dtype.is_floating_point()),
            weight_bytes=sum(int(t.nbytes) for t in tensors),
            uncounted=dict(self.uncounted),
            real_run="",
            held={row.path: row.params for row in rows},
            names={"": "", **paths},
            peak_bytes=most,
            receptive_field=max((max(sizes) for sizes in ends if sizes), default=0),
            **{figure: sum(getattr(row, figure) for row in rows) for figure in added},
        )

    def _layers(self) -> tuple[PlacedLayer, ...]:
        rows = {row.path: row for row in self._rows()}
        found = []
        for path, tally in self.tallies.items():
            if len(tally.layers) == 1:
                found.append(tally.layers[0].at(rows[path]))
            elif tally.layers:
                found.append(PlacedLayer(rows[path], reason="several of its nodes are products"))
        return tuple(found)


def _plain(figures: Mapping[str, int]) -> dict[str, int]:
    names = (
        "macs", "flops", "convolutions", "operators", "params", "weight_bytes", "activation_bytes", "traffic_bytes",
    )  # fmt: skip
    return {name: figures.get(name, 0) for name in names}
