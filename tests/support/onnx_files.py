"""Small ONNX models, captured, changed by hand or by the search, and run before and after."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from convfold.graph.onnx.capture import capture
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.program import Program
from convfold.plan.onnx.emit import emit
from convfold.plan.onnx.price import pricer
from convfold.plan.search.search import search
from support.onnx_written import run

__all__ = [
    "FLOAT",
    "IMAGE",
    "assert_equal",
    "build",
    "changed",
    "conv_norm",
    "folded",
    "node",
    "norm",
    "normal",
    "number",
    "ops",
]

FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def build(nodes, inputs, outputs, held, opset=17, ir_version=9, dtype=FLOAT, **rest) -> ir.Model:
    """A model of these nodes; inputs and outputs by name and shape, constants by name."""
    tensors = [numpy_helper.from_array(array, name) for name, array in held.items()]
    infos = [
        [helper.make_tensor_value_info(n, TensorProto.INT64 if n == "width" else dtype, s) for n, s in found.items()]
        for found in (inputs, outputs)
    ]
    if ir_version < 4:
        infos[0] += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "g", *infos, tensors, doc_string="what it is")
    imports = [helper.make_opsetid("", opset), *rest.pop("imports", [])]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version, **rest)
    onnx.checker.check_model(model)
    return ir.serde.deserialize_model(model)


def node(op, inputs, outputs, **attributes):
    """A node; an input that is left out is a dash."""
    return helper.make_node(op, inputs.replace("-", "").split(" "), outputs.split(), **attributes)


def folded(model: ir.Model) -> tuple[CapturedFile, ir.Model]:
    captured = capture(model)
    found = search(captured.program, pricer=pricer(captured.open, model.opset_imports[""]), alive=captured.alive)
    return captured, emit(captured, found.program)


def changed(captured: CapturedFile, **definitions) -> Program:
    """The program with other definitions, by the names of their values."""
    numbers = {name: number for number, name in captured.names.items()}
    nodes = {**captured.program.nodes, **{numbers[name]: found for name, found in definitions.items()}}
    return replace(captured.program, nodes=nodes)


def number(captured: CapturedFile, name: str) -> int:
    return next(number for number, found in captured.names.items() if found == name)


def assert_equal(one: ir.Model, two: ir.Model, *feeds: dict[str, np.ndarray]) -> None:
    for fed in feeds:
        for a, b in zip(run(one, fed), run(two, fed), strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


def ops(model: ir.Model) -> Counter[str]:
    return Counter(found.op_type for found in model.graph)


def norm(name: str, source: str, out: str, held: dict[str, np.ndarray], channels: int):
    """A batch normalisation, some of its scales negative."""
    for part in "sbm":
        held[name + part] = normal(channels)
    held[name + "v"] = RNG.uniform(0.5, 2, channels).astype(np.float32)
    return node("BatchNormalization", f"{source} {name}s {name}b {name}m {name}v", out, name=name)


def conv_norm(out="y", width=4) -> tuple[list, dict[str, np.ndarray]]:
    held = {"w": normal(width, 3, 3, 3), "c": normal(width)}
    conv = node("Conv", "x w c", "h", pads=[1, 1, 1, 1], name="first")
    return [conv, norm("n", "h", out, held, width)], held


IMAGE = {"x": normal(2, 3, 6, 5)}
