"""Small ONNX files by hand: nodes, constants, a fold, and what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from convfold.transform.fold_onnx import FoldedFile, fold_onnx

__all__ = ["Sketch", "folded", "operators"]

Array = np.ndarray[Any, Any]


@dataclass
class Sketch:
    """A file in the making; each call of `op` is a node, of which the name of the result is returned."""

    opset: int = 17
    ir_version: int | None = None
    dtype: Any = np.float32
    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    held: dict[str, Array] = field(default_factory=dict)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = np.random.default_rng(self.seed)
        self._count = 0

    def input(self, name: str, shape: Sequence[int | str] | None, dtype: Any = None) -> str:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype or self.dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        return (scale * self._numbers.standard_normal(shape)).astype(self.dtype)

    def factor(self, *shape: int) -> Array:
        """Of either sign, away from zero."""
        size = self._numbers.uniform(0.5, 1.5, shape)
        return (size * np.where(self._numbers.random(shape) < 0.3, -1, 1)).astype(self.dtype)

    def hold(self, array: Any, name: str = "") -> str:
        """An initialiser."""
        name = name or self._name("c")
        self.held[name] = np.asarray(array)
        return name

    def integers(self, *numbers: int) -> str:
        return self.hold(np.array(numbers, np.int64))

    def op(self, kind: str, *inputs: str, outputs: int = 1, name: str = "", **attributes: Any) -> Any:
        """The name of the result of a node; a list of them where there are more than one."""
        names = [name or self._name(kind.lower()) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, name=f"node of {names[0]}", **attributes))
        return names[0] if outputs == 1 else names

    def norm(self, x: str, count: int, **attributes: Any) -> str:
        parts = [self.factor(count), self.normal(count), self.normal(count), np.abs(self.factor(count))]
        return str(self.op("BatchNormalization", x, *map(self.hold, parts), **attributes))

    def conv(self, x: str, low: int, high: int, *kernel: int, bias: bool = False, **attributes: Any) -> str:
        fan = low * int(np.prod(kernel)) // attributes.get("group", 1)
        weight = self.hold(self.normal(high, low // attributes.get("group", 1), *kernel, scale=fan**-0.5))
        return str(self.op("Conv", x, weight, *([self.hold(self.normal(high))] if bias else []), **attributes))

    def _name(self, base: str) -> str:
        self._count += 1
        return f"{base}{self._count}"

    def model(self, *outputs: str, shapes: Mapping[str, Sequence[Any]] | None = None) -> onnx.ModelProto:
        """The checked model; outputs that are not listed in `shapes` have that of inference."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype))
        version = self.ir_version or (8 if self.opset < 20 else 10)
        tensors = [numpy_helper.from_array(array, name) for name, array in self.held.items()]
        inputs = list(self.inputs)
        if version < 4:
            inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
        ends = [helper.make_tensor_value_info(n, kind, (shapes or {}).get(n)) for n in outputs]
        graph = helper.make_graph(self.nodes, "sketch", inputs, ends, tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=version)
        inferred = {end.name: end for end in onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output}
        for end in model.graph.output:
            if end.name not in (shapes or {}):
                end.CopyFrom(inferred[end.name])
        onnx.checker.check_model(model, full_check=True)
        return model


def folded(model: onnx.ModelProto, folder: Path, **shapes: Sequence[int]) -> tuple[onnx.ModelProto, FoldedFile]:
    """The model folded, proven equal by `fold_onnx`, and the fold."""
    onnx.save(model, folder / "before.onnx")
    found = fold_onnx(folder / "before.onnx", folder / "after.onnx", shapes or None)
    assert found.certificate
    assert not any("report" in refusal.hint for refusal in found.plan.refusals)
    return onnx.load(folder / "after.onnx"), found


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """How many nodes of each kind are left."""
    return dict(Counter(node.op_type for node in model.graph.node))
