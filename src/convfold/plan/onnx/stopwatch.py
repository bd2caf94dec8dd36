"""The price in seconds of what a file executes: every kind of definition timed once in ONNX Runtime."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.nodes import opset_of
from convfold.graph.program import Concat, Linear, Node, Opaque, Program, Value
from convfold.plan.onnx.emit import emit
from convfold.plan.onnx.forms import Summand, form_of
from convfold.plan.onnx.price import PROHIBITIVE, pricer
from convfold.plan.onnx.tensors import float_type
from convfold.plan.search.price import Price
from convfold.plan.search.timings import Timings, median_seconds
from convfold.verify.onnx.timing import runner

__all__ = ["FileStopwatch", "alone", "passing"]


class FileStopwatch(Timings):
    """Prices with seconds: the nodes of each definition as a model of their own, with all optimisations.

    The time of a call that computes nothing is taken off. What is left is rounded to two digits, so that noise decides
    nothing, and kept by nodes, shapes, precision, operator set, machine, threads and version of ONNX Runtime in the
    file `cache`. What the runtime saves between definitions (an activation inside the convolution before it, a memory
    layout that is kept) is not seen.
    """

    def __init__(self, captured: CapturedFile, cache: Path | None = None) -> None:
        super().__init__(cache)
        self._captured, self._opset = captured, opset_of(captured.model.opset_imports)
        self._counted = pricer(captured.open, self._opset)
        self._threads = torch.get_num_threads()
        machine = platform.processor() or platform.machine()
        self._place = f"{machine} onnxruntime {onnxruntime.__version__} {self._threads} opset {self._opset}"

    def __call__(self, program: Program, number: int, node: Node, original: bool) -> Price:
        """The counted price with the seconds that the definition takes; none for what is left alone whatever it is."""
        counted = self._counted(program, number, node, original)
        if isinstance(node, Opaque) or counted.operators == 0 or counted == PROHIBITIVE:
            return counted
        return counted._replace(seconds=self._seconds(program, number, node, counted.operators))

    def _seconds(self, program: Program, number: int, node: Node, operators: int) -> float:
        value = program.values[number]
        if isinstance(node, Concat):
            return self._time(program, number, node, f"concatenate on {node.axis}")
        if isinstance(node, Linear):
            form = form_of(node, len(value.shape), self._opset)
            if form is not None:
                shift = f"{form.shift}{' mapped' if node.mapped else ''}"
                told = " + ".join(map(_summand_text, form.summands))
                return self._time(program, number, node, f"{told}, shift {shift}")
        # Nodes that are repeated, or that only the file can hold: each goes over what is read once.
        source = program.values[node.inputs[0]]
        key = f"{self._place} | {source.dtype} | elementwise | {source.shape}"
        return operators * self.taken(key, lambda: self._net(passing(self._captured, source), [source]))

    def _time(self, program: Program, number: int, node: Linear | Concat, told: str) -> float:
        value = program.values[number]
        sources = [program.values[source] for source in dict.fromkeys(node.inputs)]
        key = f"{self._place} | {value.dtype} | {told} | {[source.shape for source in sources]} -> {value.shape}"
        return self.taken(key, lambda: self._net(alone(self._captured, sources, node, value), sources))

    def _net(self, model: ir.Model, sources: Sequence[Value]) -> float:
        """Seconds beyond those of a call that computes next to nothing."""
        least = Value((1,))
        call = self.taken(f"{self._place} | a call", lambda: self._median(passing(self._captured, least), [least]))
        return max(self._median(model, sources) - call, 0.0)

    def _median(self, model: ir.Model, sources: Sequence[Value]) -> float:
        generator = np.random.default_rng(0)
        feeds = {
            f"x{place}": generator.standard_normal(source.shape).astype(float_type(source.dtype).numpy())
            for place, source in enumerate(sources)
        }
        return median_seconds(runner(ir.to_proto(model).SerializeToString(), feeds, self._threads))


def _summand_text(summand: Summand) -> str:
    m = summand.term.map
    window = [(a.kernel, a.stride, a.dilation, a.lo, a.hi) for a in m.window]
    return f"{' '.join(summand.nodes)} {m.kind} {m.cols} -> {m.rows} of {m.groups} on {m.axis} {window}"


def passing(captured: CapturedFile, value: Value) -> ir.Model:
    """A model that takes the positive part of x0, a value like this one."""
    return _of_one_node(captured, "Relu", [value], value)


def alone(captured: CapturedFile, sources: Sequence[Value], node: Linear | Concat, value: Value) -> ir.Model:
    """A model of one definition: inputs x0, x1, ... like `sources`, and `value` as `node` computes it from them.

    It is written as in the captured file, whose constants it takes.
    """
    model = _of_one_node(captured, "Sum", sources, value)
    program = Program()
    for source in sources:
        program.add(source)
    out = program.add(value, Opaque(tuple(range(len(sources)))))
    program.outputs = (out,)
    example = {f"x{number}": source.shape for number, source in enumerate(sources)}
    stands_in = CapturedFile(
        model=model,
        program=program,
        names=dict(enumerate((*example, "y"))),
        nodes={out: next(iter(model.graph))},
        sizes={number: tuple((size, size) for size in held.shape) for number, held in enumerate(program.values)},
        tensor=captured.tensor,
        example=example,
        elsewhere=example,
    )
    numbers = {source: place for place, source in enumerate(dict.fromkeys(node.inputs))}
    return emit(stands_in, replace(program, nodes={out: _renumbered(node, numbers)}))


def _of_one_node(captured: CapturedFile, operator: str, sources: Sequence[Value], value: Value) -> ir.Model:
    inputs = [ir.val(f"x{place}", float_type(source.dtype), source.shape) for place, source in enumerate(sources)]
    node = ir.node(operator, inputs)
    out = node.outputs[0]
    out.name, out.type, out.shape = "y", ir.TensorType(float_type(value.dtype)), ir.Shape(value.shape)
    imports = {"": opset_of(captured.model.opset_imports)}
    graph = ir.Graph(inputs, [out], nodes=[node], opset_imports=imports, name="alone")
    return ir.Model(graph, ir_version=captured.model.ir_version)


def _renumbered(node: Linear | Concat, numbers: dict[int, int]) -> Linear | Concat:
    """The definition over sources of other numbers."""
    if isinstance(node, Concat):
        return replace(node, pieces=tuple(numbers[piece] for piece in node.pieces))
    return replace(node, terms=tuple(replace(term, source=numbers[term.source]) for term in node.terms))
