"""Random nodes of an ONNX file, each run in ONNX Runtime as it is drawn: shapes are known, values stay in scale."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

__all__ = ["NEWEST", "OPSETS", "Builder", "Rejected", "run_model"]

NEWEST = 26  # that ONNX Runtime runs
OPSETS = (9, 11, 13, 17, 20, NEWEST)
WIDEST, MOST, LEAST, LARGEST = 16, 30.0, 0.02, 12_000
Array = np.ndarray[Any, Any]
Input = str | None


class Rejected(Exception):
    """A node that does not run, or leads out of scale; another one is drawn."""


def run_model(model: onnx.ModelProto, feeds: dict[str, Array], *, optimised: bool = False) -> list[Array]:
    """The outputs in ONNX Runtime, each node as it stands unless it shall be optimised."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, feeds)
    return found


def _run(node: onnx.NodeProto, feeds: dict[str, Array], opset: int) -> list[Array]:
    """The results of one node."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "node", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    try:
        found = run_model(model, feeds)
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph.output
    except Exception as error:  # whatever ONNX Runtime says of a node that it does not run
        raise Rejected(f"{node.op_type}: {error}") from error
    for value, array in zip(inferred, found, strict=True):
        shape = [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.HasField("shape") and any(
            a not in (b, None) for a, b in zip(shape, array.shape, strict=True)
        ):
            # onnx and ONNX Runtime do not agree on some poolings with ceil_mode.
            raise Rejected(f"{node.op_type}: {list(array.shape)} is not {shape}")
    return found


class Builder:
    """A graph in the making: nodes, initialisers, and what every tensor holds at the example sizes.

    Layouts of values are "map" (N, C, *sizes), "last" (N, *sizes, C), "tokens" (N, L, C) and "vector" (N, C).
    """

    def __init__(self, seed: int, opset: int, dtype: Any, open_sizes: bool, dims: int) -> None:
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.opset, self.dtype, self.open, self.dims = opset, np.dtype(dtype), open_sizes, dims
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: dict[str, Array] = {}
        self.arrays: dict[str, Array] = {}
        self.layouts: dict[str, str] = {}
        self.labels: dict[str, set[str]] = {}
        self.inputs: list[str] = []
        self._count = 0

    # --- values

    def name(self, base: str) -> str:
        self._count += 1
        return f"{base}{self.rng.choice(['_', '.', '/', '::'])}{self._count}"

    def input(self, name: str, array: Array, layout: str) -> str:
        self.inputs.append(name)
        self.arrays[name], self.layouts[name] = array, layout
        return name

    def normal(self, *shape: int) -> Array:
        return self.numbers.standard_normal(shape).astype(self.dtype)

    def factor(self, *shape: int) -> Array:
        """Of either sign, away from zero."""
        size = self.numbers.uniform(0.5, 1.5, shape)
        return (size * np.where(self.numbers.random(shape) < 0.3, -1, 1)).astype(self.dtype)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.arrays[name].shape)

    def channels(self, name: str) -> int:
        return self.shape(name)[1 if self.layouts.get(name, "map") in ("map", "vector") else -1]

    def pick(self, *layouts: str) -> str:
        """A value of one of these layouts, more often a late one."""
        found = [name for name, layout in self.layouts.items() if layout in layouts]
        if not found:
            raise Rejected("no such value")
        return found[-1 - min(int(self.rng.expovariate(0.7)), len(found) - 1)]

    # --- nodes

    def raw(
        self, op: str, inputs: Sequence[Input], *, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[str]:
        """A node as it is; raises Rejected, after which nothing has changed."""
        names = [self.name(op.lower()) for _ in range(outputs)]
        given = [name or "" for name in inputs]
        while given and not given[-1]:
            given.pop()
        node = helper.make_node(op, given, names, name=self.name(f"n/{op}"), domain=domain, **attributes)
        results = _run(node, {name: self.arrays[name] for name in dict.fromkeys(given) if name}, self.opset)
        for name, array in zip(names, results, strict=True):
            if array.size > LARGEST or array.size == 0 or not np.isfinite(array.astype(np.float64)).all():
                raise Rejected("out of scale")
            self.arrays[name] = array
        self.nodes.append(node)
        for name in names:
            self.labels[name] = {op}
        return names

    def many(
        self,
        op: str,
        inputs: Sequence[Input],
        *,
        outputs: int = 1,
        layout: str = "",
        label: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Values that a node computes; the layout is that of the first input, or what the rank says."""
        names = self.raw(op, inputs, outputs=outputs, **attributes)
        layouts = {4: "map", 5: "map", 3: "map" if self.dims == 1 else "tokens", 2: "vector"}
        for name in names:
            largest = float(np.abs(self.arrays[name].astype(np.float64)).max())
            if not LEAST < largest < MOST:
                self.nodes.pop()
                raise Rejected("out of scale")
            before = self.layouts.get(inputs[0] or "", "")
            rank = self.arrays[name].ndim
            kept = before if before and rank == len(self.shape(inputs[0] or "")) else layouts.get(rank, "other")
            self.layouts[name] = layout or kept
            if label:
                self.labels[name].add(label)
        return names

    def one(self, op: str, inputs: Sequence[Input], **options: Any) -> str:
        return self.many(op, inputs, **options)[0]

    # --- constants

    def constant(self, array: Array, base: str = "c", *, plain: bool = False) -> str:
        """A tensor that does not depend on inputs: an initialiser, a Constant, or computed by nodes of these."""
        array = np.asarray(array)
        kinds = ["plain"] * 6 if plain else ["plain"] * 6 + ["identity", "reshaped", "expanded", "unsqueezed", "summed"]
        kind = self.rng.choice(kinds)
        if kind == "plain" or array.dtype != self.dtype or array.ndim == 0:
            return self._held(array, base)
        if kind == "identity":
            return self._computed("Identity", [self._held(array, base)])
        if kind == "expanded" and array.ndim == 1:
            shape = self._held(np.array(array.shape, np.int64), "shape")
            filled = numpy_helper.from_array(np.array([array[0]]))
            number = self._computed("ConstantOfShape", [shape], value=filled)
            return self._computed("Add", [number, self._held(array - array[0], base)])
        if kind == "unsqueezed":
            lead = self._held(array.reshape(1, *array.shape, 1), base)
            axes = [0, array.ndim + 1]
            if self.opset < 13:
                return self._computed("Squeeze", [lead], axes=axes)
            return self._computed("Squeeze", [lead, self._held(np.array(axes, np.int64), "axes")])
        if kind == "summed":
            return self._computed("Mul", [self._held(array / 2, base), self._held(np.array(2, self.dtype), "two")])
        shape = self._held(np.array(array.shape, np.int64), "shape")
        return self._computed("Reshape", [self._held(array.reshape(-1), base), shape])

    def integers(self, numbers: Sequence[int] | int, base: str = "sizes") -> str:
        return self._held(np.array(numbers, np.int64), base)

    def _held(self, array: Array, base: str) -> str:
        if self.chance(0.25):
            return self._computed("Constant", [], value=numpy_helper.from_array(array))
        name = self.name(base)
        self.initialisers[name] = self.arrays[name] = array
        return name

    def _computed(self, op: str, inputs: Sequence[Input], **attributes: Any) -> str:
        return self.raw(op, inputs, **attributes)[0]

    # --- sizes

    def sizes(self, like: str, wanted: Sequence[int | tuple[int, ...]]) -> str:
        """A shape: numbers, and for each tuple the product of sizes of those axes of `like`.

        Of open sizes, and now and then of others, it is read off `like` by Shape, Gather and Concat.
        """
        reads = [isinstance(size, tuple) for size in wanted]
        if not self.open and (not any(reads) or self.chance(0.6)):
            shape = self.shape(like)
            plain = [size if isinstance(size, int) else int(np.prod([shape[a] for a in size])) for size in wanted]
            return self.integers(plain, "shape")
        shape_of = self._computed("Shape", [like])
        pieces = []
        for size in wanted:
            if isinstance(size, int):
                pieces.append(self.integers([size], "size"))
                continue
            found = [self._computed("Gather", [shape_of, self.integers(axis, "axis")]) for axis in size]
            whole = found[0]
            for other in found[1:]:
                whole = self._computed("Mul", [whole, other])
            if self.opset < 13:
                pieces.append(self._computed("Unsqueeze", [whole], axes=[0]))
            else:
                pieces.append(self._computed("Unsqueeze", [whole, self.integers([0], "axes")]))
        return self._computed("Concat", pieces, axis=0)

    # --- drawing

    def try_many(self, draw: Callable[[], Any], times: int = 8) -> bool:
        """Draw until something fits; whether it did. What a rejected draw had already made stays, unused."""
        for _ in range(times):
            try:
                draw()
            except Rejected:
                continue
            return True
        return False
