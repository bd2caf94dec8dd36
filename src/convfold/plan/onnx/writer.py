"""A copy of a model that nodes and weights are written into, under names that are free."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from convfold.errors import NotFoldable, Refusal
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.nodes import opset_of
from convfold.graph.program import Program
from convfold.graph.sizes import Pair
from convfold.plan.onnx.tensors import Make, lazily

__all__ = ["INITIALISERS_ALONE", "Writer"]

# From this version on, an initialiser need not be an input of the graph as well.
INITIALISERS_ALONE = 4
# Before, operators broadcast only where an attribute said so.
_OLDEST = 7


class Writer:
    """The model under way: `values` are its tensors by name, `of` those that stand for values of the program.

    The model is a copy; it shares the tensors of the original, so that what lies in another file stays there.
    """

    def __init__(self, captured: CapturedFile, after: Program) -> None:
        self.captured, self.after = captured, after
        self.model = captured.model.clone()
        self.graph = self.model.graph
        self.opset = opset_of(self.graph.opset_imports)
        if self.opset < _OLDEST:
            reason = f"it needs operator set {_OLDEST} or newer, the file has {self.opset}"
            raise NotFoldable(Refusal("region", reason, hint="Convert it with onnx.version_converter first."))
        self.values = _named(self.graph)
        self.twins = dict(zip(captured.model.graph, self.graph, strict=True))
        self.of: dict[int, ir.Value] = {}
        self.sizes = dict(captured.sizes)
        self.numbers = {name: number for number, name in captured.names.items()}
        self._names = _all_names(self.graph)
        self._nodes = {node.name for node in self.graph if node.name}
        self._pending: list[ir.Node] = []
        self._kept: dict[Hashable, tuple[object, ir.Value]] = {}

    def fresh(self, base: str) -> str:
        """A name like `base` that no tensor has."""
        return _unique(base, self._names)

    def node(
        self, op: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any] | None = None, *, base: str
    ) -> ir.Value:
        """A new node of the default domain, for the value of that name; its result."""
        return self.put(ir.node(op, inputs, attributes or {}), base)

    def put(self, node: ir.Node, base: str) -> ir.Value:
        """The first result of a node that was made, for the value of the name `base`."""
        node.name = _unique(f"{base}/{node.op_type}", self._nodes)
        self._pending.append(node)
        return node.outputs[0]

    def is_new(self, value: ir.Value) -> bool:
        """Whether a node that is not placed yet gives it."""
        return any(value is result for node in self._pending for result in node.outputs)

    def place(self, before: ir.Node | None, base: str) -> None:
        """Put what was written into the graph before a node, or at the end; results without a name are given one.

        The order need not be right yet.
        """
        for node in self._pending:
            for value in node.outputs:
                value.name = value.name or self.fresh(f"{base}_{node.op_type.lower()}")
        if before is None:
            self.graph.extend(self._pending)
        else:
            self.graph.insert_before(before, self._pending)
        self._pending = []

    def take_over(self, old: ir.Value, new: ir.Value) -> None:
        """Let `new` stand wherever `old` stood, by its name, in subgraphs and as an output of the graph too."""
        name = old.name
        assert name is not None
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        # A part of a Split stays, with nothing to read it.
        old.name = self.fresh(f"{name}_unused")
        new.name, new.doc_string = name, old.doc_string
        new.type, new.shape = old.type or new.type, new.shape if old.shape is None else old.shape.copy()
        new.metadata_props.update(old.metadata_props)
        self.values[name] = new

    def integers(self, numbers: Sequence[int] | int, base: str) -> ir.Value:
        """A constant of integers."""
        return self.constant(np.array(numbers, dtype=np.int64), base)

    def constant(self, array: np.ndarray[Any, Any], base: str) -> ir.Value:
        """A constant that is there already."""
        name = self.fresh(base)
        return self._hold(ir.tensor(array, name=name), name)

    def weight(
        self, make: Make, shape: tuple[int, ...], dtype: ir.DataType, base: str, key: tuple[object, ...] | None = None
    ) -> ir.Value:
        """A weight that is computed when the file is written; of one `key` (an object and how it is written) one."""
        known = None if key is None else (id(key[0]), *key[1:], shape, dtype)
        if known is not None and known in self._kept:
            return self._kept[known][1]
        name = self.fresh(base)
        value = self._hold(lazily(self.captured, make, shape, dtype, name), name)
        if known is not None:
            # The object is held: an identity number is only unique while it lives.
            self._kept[known] = (key, value)
        return value

    def filled(self, number: float, count: int, dtype: ir.DataType) -> ir.Value:
        """So many times the same number."""
        key = ("filled", number, count, dtype)
        if key not in self._kept:
            name = self.fresh(f"{'ones' if number else 'zeros'}_{count}")
            array = np.full(count, number, dtype=dtype.numpy())
            self._kept[key] = (None, self._hold(ir.Tensor(array, dtype=dtype, name=name), name))
        return self._kept[key][1]

    def stored(self, key: Hashable, shape: tuple[int, ...], dtype: ir.DataType, rank: int = 0) -> ir.Value | None:
        """The initialiser of that name, where it has this shape and type, so that it need not be written again.

        With a `rank` it is broadcast to so many axes: axes of one before are none.
        """
        if isinstance(key, tuple) and key[0] == "flat":
            key = key[1]
        value = self.values.get(key) if isinstance(key, str) else None
        if value is None or not value.is_initializer() or value.const_value is None:
            return None
        found = tuple(value.const_value.shape.numpy())
        same = found == shape or (len(found) <= rank and _led(found) == _led(shape))
        return value if same and value.const_value.dtype == dtype else None

    def _hold(self, tensor: ir.TensorProtocol, name: str) -> ir.Value:
        kind, shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=name, shape=shape, type=kind, const_value=tensor)
        self.graph.initializers[name] = value
        if self.model.ir_version < INITIALISERS_ALONE:
            self.graph.inputs.append(value)
        return value

    def shape_of(self, name: str) -> ir.Value:
        """The shape of an input, read by one node."""
        key = ("shape", name)
        if key not in self._kept:
            self._kept[key] = (None, self.node("Shape", [self.values[name]], base=name))
        return self._kept[key][1]

    def shape(self, pairs: Sequence[Pair]) -> ir.Shape:
        """Sizes that are the same everywhere as numbers, others by the name that an input's size has."""
        return ir.Shape([one if one == two else self._symbol((one, two)) for one, two in pairs])

    def _symbol(self, pair: Pair) -> str | None:
        for name, sizes in self.captured.example.items():
            shape = self.values[name].shape
            for axis, found in enumerate(zip(sizes, self.captured.elsewhere[name], strict=True)):
                size = None if shape is None else shape[axis]
                if found == pair and isinstance(size, ir.SymbolicDim):
                    return size.value
        return None


def _named(graph: ir.Graph) -> dict[str, ir.Value]:
    """The tensors of the main graph by their names."""
    results = [value for node in graph for value in node.outputs]
    held = [*graph.inputs, *graph.initializers.values(), *results]
    return {value.name: value for value in held if value.name}


def _led(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape from its first axis on that is not one."""
    first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return shape[first:]


def _all_names(graph: ir.Graph) -> set[str]:
    """The names of all tensors, those of subgraphs too: what is inside sees what is outside."""
    names = set(_named(graph))
    for inner in graph.subgraphs():
        names |= set(_named(inner))
    return names


def _unique(base: str, taken: set[str]) -> str:
    name, count = base, 1
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name)
    return name
