"""One definition at a time: written over inputs, run, and counted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from torch import Tensor

from convfold.graph.maps import Given, Map
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.program import Linear, Opaque, Program, Shift, ShiftGiven, Term, Value
from convfold.plan.onnx.emit import emit
from convfold.plan.onnx.price import pricer
from convfold.plan.search.price import Price

onnxruntime.set_default_logger_severity(3)
FREE = {"Identity", "Constant"}


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """The model as it stands: nothing optimised, so a node that is wrong is run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def proto(model: ir.Model) -> onnx.ModelProto:
    """The serialised model, checked."""
    found = ir.serde.serialize_model(model)
    onnx.checker.check_model(found, full_check=True)
    return found


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return session(proto(model)).run(None, feeds)


@dataclass
class Bench:
    """Inputs x0, x1, ... and one output y, whose definition is written; `tensors` are its constants by key."""

    shapes: Sequence[tuple[int, ...]]
    opset: int = 17
    open: bool = False
    seed: int = 0
    tensors: dict[Hashable, Tensor] = field(default_factory=dict)
    stored: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.generator = generator
        self.x = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in self.shapes]

    def tensor(self, *shape: int) -> tuple[str, Tensor]:
        """A random constant, and its key."""
        key = f"k{len(self.tensors)}"
        self.tensors[key] = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        return key, self.tensors[key]

    def conv(self, window, rows: int, groups: int = 1, axis: int = 1, source: int = 0) -> tuple[Term, Tensor]:
        cols = self.shapes[source][axis]
        key, weight = self.tensor(rows, cols // groups, *(a.kernel for a in window))
        return Term(Map("conv", rows, cols, axis, tuple(window), groups, Given(key)), source), weight

    def shift(self, *shape: int) -> tuple[Shift, Tensor]:
        key, bias = self.tensor(*shape)
        return ShiftGiven(key), bias

    def captured(self, shape: Sequence[int]) -> CapturedFile:
        """A file of one node, which the definition takes the place of."""
        inputs = [ir.val(f"x{n}", ir.DataType.FLOAT, s) for n, s in enumerate(self.shapes)]
        node = ir.node("Sum", inputs, num_outputs=1)
        out = node.outputs[0]
        out.name, out.type, out.shape = "y", ir.TensorType(ir.DataType.FLOAT), ir.Shape([None] * len(shape))
        held = {
            k: ir.Value(
                name=k, const_value=ir.tensor(t.float().numpy(), name=k), shape=ir.Shape(t.shape), type=inputs[0].type
            )
            for k, t in self.stored.items()
        }
        graph = ir.Graph(
            inputs, [out], nodes=[node], initializers=list(held.values()), opset_imports={"": self.opset}, name="g"
        )
        model = ir.Model(graph, ir_version=8)
        program = Program()
        for s in self.shapes:
            program.add(Value(tuple(s)))
        y = program.add(Value(tuple(shape)), Opaque(tuple(range(len(self.shapes)))))
        program.outputs = (y,)
        sizes = {n: tuple((d, d) for d in value.shape) for n, value in enumerate(program.values)}
        names = {**{n: f"x{n}" for n in range(len(self.shapes))}, y: "y"}

        def tensor(key: Hashable, dtype: torch.dtype | None = None) -> Tensor:
            if isinstance(key, tuple):
                kind, inner = key
                found = tensor(inner, dtype)
                return found.t() if kind == "transposed" else found.reshape(-1)
            found = self.tensors[key] if key in self.tensors else self.stored[key]
            return found.to(dtype or found.dtype)

        return CapturedFile(model, program, names, {y: node}, sizes, tensor, open=self.open)

    def written(self, node: Linear, reference: Tensor) -> tuple[list[str], Price]:
        """Write `node`, run it, compare it with what it should give; the nodes, and the price."""
        captured = self.captured(reference.shape)
        number = captured.program.outputs[0]
        after = replace(captured.program, nodes={number: node})
        price = pricer(self.open, self.opset)(after, number, node, False)
        before = captured.model.graph.num_nodes()
        model = emit(captured, after)
        assert captured.model.graph.num_nodes() == before
        feeds = {f"x{n}": x.float().numpy() for n, x in enumerate(self.x)}
        (found,) = run(model, feeds)
        close(found, reference)
        return [n.op_type for n in model.graph], price


def close(found: np.ndarray, reference: Tensor) -> None:
    """Equal but for rounding of float32: some hundred products were added up."""
    assert tuple(found.shape) == tuple(reference.shape)
    difference = (torch.from_numpy(found.astype(np.float64)) - reference).abs().max()
    assert difference <= 64 * 2**-24 * reference.abs().max(), float(difference)


Build = Callable[[Bench], tuple[Linear, Tensor]]
