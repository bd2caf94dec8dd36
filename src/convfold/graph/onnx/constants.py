"""What does not depend on a file's inputs: initialisers, and what nodes compute of them."""

from __future__ import annotations

from collections.abc import Hashable
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from convfold.graph.derived import derive, derived_from
from convfold.graph.onnx.nodes import inner_graphs, is_standard
from convfold.graph.onnx.types import dtype_of, run_node, to_tensor

__all__ = ["FileConstants", "is_deterministic"]

_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
# A weight that is stored in few bits was meant to stay so: to fold it is to store it wide.
_QUANTISED = {"DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear"}
# Since then an initialiser that is an input too is a default, which a caller may replace.
_DEFAULTS = 4
_SMALL = 2**16
# Operators that are told the size of their result, by which input; and the most elements that are taken for a weight.
_SHAPED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
_LARGEST = 2**26


def is_deterministic(node: ir.Node) -> bool:
    """Whether a node of the default domain gives the same for the same inputs, and holds no graph of its own."""
    return is_standard(node) and node.op_type not in _RANDOM | _QUANTISED and not any(inner_graphs(node))


class FileConstants:
    """The constants of the main graph by the name of their tensor, evaluated when asked for.

    An initialiser that is an input of the graph as well is none: a caller may replace it.
    """

    def __init__(self, model: ir.Model, version: int) -> None:
        self._version = version
        self._held: dict[str, ir.TensorProtocol] = {}
        self._nodes: dict[str, tuple[ir.Node, int]] = {}
        self._known: dict[str, np.ndarray[Any, Any]] = {}
        self._small: dict[tuple[str, torch.dtype | None], np.ndarray[Any, Any]] = {}
        inputs = {value.name for value in model.graph.inputs} if model.ir_version >= _DEFAULTS else set()
        for name, value in model.graph.initializers.items():
            if value.const_value is not None and name not in inputs:
                self._held[name] = value.const_value

    def __contains__(self, value: ir.Value | None) -> bool:
        return value is not None and (
            value.name in self._held or value.name in self._nodes or value.name in self._known
        )

    def note(self, node: ir.Node) -> bool:
        """Note the results of a node if they are constants; whether they are.

        What a few numbers blow up to more than a file of weights would hold is computed by the runtime, as before.
        """
        if not is_deterministic(node) or not all(value is None or value in self for value in node.inputs):
            return False
        if self._blown_up(node) > _LARGEST:
            return False
        for index, value in enumerate(node.outputs):
            if value.name:
                tensor = _constant(node)
                if tensor is not None:
                    self._held[value.name] = tensor
                else:
                    self._nodes[value.name] = (node, index)
        return self._is_computable(node)

    def _is_computable(self, node: ir.Node) -> bool:
        """Whether onnx's implementation takes a node; of large inputs that shows only when they are asked for."""
        sizes = [self._size(value.name or "") for value in node.inputs if value is not None]
        if any(size is None for size in sizes) or sum(size or 0 for size in sizes) > _SMALL:
            return True
        names = [value.name for value in node.outputs if value.name in self._nodes]
        try:
            for name in names[:1]:
                self._evaluate(name or "", None)
        except Exception:  # it raises whatever numpy does
            for name in names:
                del self._nodes[name or ""]
            return False
        return True

    def _size(self, name: str) -> int | None:
        """The elements of a constant that is there already."""
        if name in self._held:
            return int(self._held[name].size)
        found = self._known.get(name, self._small.get((name, None)))
        return None if found is None else int(found.size)

    def _blown_up(self, node: ir.Node) -> int:
        """The elements that a node makes of the shape that it is given; 0 for a node of another kind."""
        place = _SHAPED.get(node.op_type)
        given = None if place is None or len(node.inputs) <= place else node.inputs[place]
        if given is None:
            return 0
        sizes = [max(int(size), 1) for size in self.array(given.name or "").reshape(-1)[:64]]
        own = self.meta(node.inputs[0].name or "")[0] if node.op_type == "Tile" and node.inputs[0] else ()
        return prod((*sizes, *own))

    def hold(self, name: str, array: np.ndarray[Any, Any]) -> None:
        """A tensor that was found to be the same at all sizes."""
        self._known[name] = array

    def meta(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        """Shape and type, without the elements where those are held."""
        if name in self._held:
            tensor = self._held[name]
            return tuple(int(size) for size in tensor.shape), dtype_of(tensor.dtype)
        array = self.array(name)
        return tuple(array.shape), dtype_of(ir.DataType.from_numpy(array.dtype))

    def array(self, name: str, dtype: torch.dtype | None = None) -> np.ndarray[Any, Any]:
        """The elements; with a dtype, what is computed of floating point is computed in it."""
        if name in self._held:
            array = self._held[name].numpy()
            return _cast(array, dtype)
        if name in self._known:
            return _cast(self._known[name], dtype)
        found = self._small.get((name, dtype))
        return self._evaluate(name, dtype) if found is None else found

    def _evaluate(self, name: str, dtype: torch.dtype | None) -> np.ndarray[Any, Any]:
        results: dict[str, np.ndarray[Any, Any]] = {}

        def given(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
            if value is None:
                return None
            found = results.get(value.name or "")
            return self.array(value.name or "", dtype) if found is None else found

        stack = [name]
        while stack:
            node = self._nodes[stack[-1]][0]
            needed = [v.name for v in node.inputs if v is not None and v.name in self._nodes]
            missing = [n for n in needed if n is not None and n not in results and (n, dtype) not in self._small]
            if missing:
                stack += missing
                continue
            stack.pop()
            for value, result in zip(
                node.outputs, _run(node, list(map(given, node.inputs)), self._version, dtype), strict=False
            ):
                if value.name:
                    results[value.name] = result
                    # Weights are not held twice.
                    if result.size <= _SMALL:
                        self._small[value.name, dtype] = result
        return results[name]

    def __call__(self, key: Hashable, dtype: object = None) -> Tensor:
        """The constant of a key: a name, or what rules derive of others."""
        wide = dtype if isinstance(dtype, torch.dtype) else None
        if isinstance(key, str):
            return to_tensor(self.array(key, wide), wide)
        if isinstance(key, tuple) and key[0] in ("rows", "columns") and key[1] in self._held:
            # Cut before it is cast: the rest stays in the file.
            where = slice(*key[2:]) if key[0] == "rows" else (slice(None), slice(*key[2:]))
            return to_tensor(self._held[key[1]].numpy()[where], wide)
        # Derived keys nest a few levels, never as deep as a graph.
        assert derived_from(key) or isinstance(key, tuple)
        return derive(key, lambda inner: self(inner, wide), wide)


def _constant(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a node Constant."""
    if node.op_type != "Constant" or "value" not in node.attributes:
        return None
    found = node.attributes["value"].value
    return found if isinstance(found, ir.TensorProtocol) else None


def _cast(array: np.ndarray[Any, Any], dtype: torch.dtype | None) -> np.ndarray[Any, Any]:
    if dtype is None or array.dtype.kind in "biuOSU":
        return array
    return array.astype(np.float32 if dtype == torch.float32 else np.float64, copy=False)


def _run(node: ir.Node, inputs: list[Any], version: int, dtype: torch.dtype | None) -> list[Any]:
    results = run_node(node, inputs, version)
    if dtype is not None and node.op_type in ("Cast", "CastLike"):
        # A cast between float32 and float64 says nothing of the values; one to half precision rounds.
        wide = [np.asarray(inputs[0]).dtype.kind == "f" and r.dtype in (np.float32, np.float64) for r in results]
        results = [inputs[0] if same else r for same, r in zip(wide, results, strict=True)]
    return [_cast(np.asarray(result), dtype) for result in results]
