"""The shape of every tensor of a file, at two sizes of its inputs, so that what follows the inputs is told apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from convfold.errors import InvalidArgument
from convfold.graph.onnx.constants import FileConstants, is_deterministic
from convfold.graph.onnx.nodes import is_standard
from convfold.graph.onnx.types import run_node
from convfold.graph.sizes import Pair, Sizes

__all__ = ["FileSizes", "Known", "Shapes", "input_shapes", "probe_shapes"]

Known = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]
Shape = tuple[int, ...]
# What is tried for an axis that a file leaves open, by the rank of the tensor; and by what it is multiplied.
_LENGTHS = {3: 224, 4: 224, 5: 32}
_MULTIPLES = (7, 3, 5, 11, 13, 17, 19, 23)
# Elements of tensors whose values are looked at: shapes, starts and ends, scales; not weights.
_SMALL = 1024


class FileSizes(Sizes):
    """Sizes as rules see them: a number, or where it follows the inputs the pair of it at both points."""

    def __init__(self) -> None:
        super().__init__({})

    def pair(self, size: Any) -> Pair:
        return size if isinstance(size, tuple) else (size, size)


def _dims(model: ir.Model, value: ir.Value) -> list[int | str]:
    """The sizes of an input as the file has them, an open one by its name; one without a name by its place."""
    if value.shape is None:
        raise InvalidArgument(
            "the file does not say how many axes this input has", where=value.name or "", hint="Give its shape."
        )
    found: list[int | str] = []
    for axis, size in enumerate(value.shape):
        if isinstance(size, int):
            found.append(size)
        else:
            # Batches without a name are taken for one and the same.
            found.append(size.value or ("batch" if axis == 0 else f"{value.name} {axis}"))
    return found


def _channels(value: ir.Value, constants: FileConstants) -> int | None:
    """The channels that the first convolution of an input reads."""
    for node in value.consumers():
        if node.op_type == "Conv" and node.inputs[1] in constants:
            groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
            name = node.inputs[1].name  # type: ignore[union-attr]
            return constants.meta(name or "")[0][1] * groups
    return None


def input_shapes(
    model: ir.Model, constants: FileConstants, given: dict[str, Shape] | None
) -> tuple[dict[str, Shape], dict[str, Shape]]:
    """The shapes of the inputs at the example sizes and at others: open sizes at two values, fixed ones at one.

    An open size is 1 on the first axis, and else a length that images have; `given` shapes stand for the example.
    Raises InvalidArgument for a given shape that the file does not take.
    """
    example: dict[str, int] = {}
    inputs = [value for value in model.graph.inputs if value.name not in model.graph.initializers]
    for value in inputs:
        dims = _dims(model, value)
        shape = (given or {}).get(value.name or "")
        fits = shape is None or (
            len(shape) == len(dims)
            and all(isinstance(size, str) or size == one for size, one in zip(dims, shape, strict=True))
        )
        if not fits:
            raise InvalidArgument(
                "the file does not take this shape", where=value.name or "", got=list(shape or ()), expected=dims
            )
        for axis, size in enumerate(dims):
            if not isinstance(size, str):
                continue
            if shape is not None:
                found = shape[axis]
            elif axis == 0:
                found = 1
            elif axis == 1 and len(dims) > 2:
                found = _channels(value, constants) or 3
            else:
                found = _LENGTHS.get(len(dims), 16)
            if example.setdefault(size, found) != found and shape is not None:
                raise InvalidArgument(
                    f"the size {size!r} has two values", where=value.name or "", got=found, expected=example[size]
                )
    other = {size: n * _MULTIPLES[i % len(_MULTIPLES)] for i, (size, n) in enumerate(example.items())}

    def shapes(at: dict[str, int]) -> dict[str, Shape]:
        return {
            v.name or "": tuple(at[size] if isinstance(size, str) else size for size in _dims(model, v)) for v in inputs
        }

    return shapes(example), shapes(other)


def probe_shapes(model: ir.Model, example: dict[str, Shape]) -> list[dict[str, Shape]]:
    """The example shapes, and others that the file leaves open: more samples, other heights and widths."""
    inputs = [value for value in model.graph.inputs if value.name in example]
    dims = {value.name or "": _dims(model, value) for value in inputs}
    found = [example]
    # Lengths that most networks divide by stay divisible; a file that does not take one is not asked for it.
    for samples, longer in ((2, 0), (3, 32), (1, 64)):
        named = {
            size: example[name][axis] + (samples - 1 if axis == 0 else longer if axis > 1 else 0)
            for name, sizes in dims.items()
            for axis, size in enumerate(sizes)
            if isinstance(size, str)
        }
        shapes = {name: tuple(named.get(s, s) for s in sizes) for name, sizes in dims.items()}  # type: ignore[arg-type,misc]
        if shapes not in found:
            found.append(shapes)  # type: ignore[arg-type]
    return found


@dataclass
class Shapes:
    """What is known of each tensor by name: its sizes at both points, its type; of what follows sizes, the elements.

    A tensor that is not listed in `dims` has an unknown shape. `versions` are the opsets by domain, that of onnx's own
    operators under ""; `fixed` says that the two points are one.
    """

    constants: FileConstants
    versions: dict[str, int]
    fixed: bool = False
    dims: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    dtypes: dict[str, ir.DataType | None] = field(default_factory=dict)
    following: dict[str, Known] = field(default_factory=dict)
    sizes: FileSizes = field(default_factory=FileSizes)

    def input(self, value: ir.Value, example: Shape, other: Shape) -> None:
        """Note an input."""
        self._note(value, (example, other), value.dtype)

    def _note(self, value: ir.Value, shapes: tuple[Shape, Shape], dtype: ir.DataType | None) -> None:
        name = value.name or ""
        if len(shapes[0]) == len(shapes[1]):
            self.dims[name] = tuple(a if a == b else (a, b) for a, b in zip(*shapes, strict=True))
        self.dtypes[name] = dtype

    def shape(self, value: ir.Value, point: int) -> Shape | None:
        """The shape at one point."""
        name = value.name or ""
        if value in self.constants:
            return self.constants.meta(name)[0]
        dims = self.dims.get(name)
        return None if dims is None else tuple(d[point] if isinstance(d, tuple) else d for d in dims)

    def elements(self, value: ir.Value, point: int) -> np.ndarray[Any, Any] | None:
        """The elements of a small tensor that is constant or follows sizes, at one point."""
        name = value.name or ""
        if name in self.following:
            return self.following[name][point]
        if value in self.constants and math.prod(self.constants.meta(name)[0]) <= _SMALL:
            return self.constants.array(name)
        return None

    def follows_sizes(self, node: ir.Node) -> bool:
        """Whether a node computes on sizes alone; its results are then noted, as constants where they are the same
        at both points."""
        if not is_deterministic(node):
            return False
        given = [value for value in node.inputs if value is not None]
        if node.op_type in ("Shape", "Size"):
            points = [self._measured(node, given[0], point) for point in (0, 1)]
        else:
            if not any((v.name or "") in self.following for v in given) or any(
                self.elements(value, 0) is None for value in given
            ):
                return False
            points = [self._computed(node, point) for point in (0, 1)]
        if any(results is None for results in points):
            return False
        for value, one, two in zip(node.outputs, points[0] or [], points[1] or [], strict=False):
            self._result(value, np.asarray(one), np.asarray(two))
        return True

    def _result(self, value: ir.Value, one: np.ndarray[Any, Any], two: np.ndarray[Any, Any]) -> None:
        name = value.name or ""
        if one.shape == two.shape and np.array_equal(one, two):
            self.constants.hold(name, one)
            return
        self.following[name] = (one, two)
        self._note(value, (one.shape, two.shape), ir.DataType.from_numpy(one.dtype))

    def _measured(self, node: ir.Node, source: ir.Value, point: int) -> list[Any] | None:
        shape = self.shape(source, point)
        if shape is None:
            return None
        if node.op_type == "Size":
            return [np.array(math.prod(shape), dtype=np.int64)]
        start, end = (node.attributes[k].as_int() if k in node.attributes else None for k in ("start", "end"))
        return [np.array(shape[start:end], dtype=np.int64)]

    def _computed(self, node: ir.Node, point: int) -> list[Any] | None:
        inputs = [None if value is None else self.elements(value, point) for value in node.inputs]
        shapes = self._infer(node, point)
        if shapes is None or any(shape is None or math.prod(shape) > _SMALL for shape, _ in shapes):
            return None
        try:
            return run_node(node, inputs, self.versions[""])
        except Exception:  # a reference implementation of onnx raises whatever numpy does
            return None

    def infer(self, node: ir.Node) -> None:
        """Note the shapes of a node's results at both points, as far as they can be told."""
        first = self._infer(node, 0)
        points = [first, first if self.fixed else self._infer(node, 1)]
        for index, value in enumerate(node.outputs):
            found = [None if point is None else point[index] for point in points]
            if all(one is not None and one[0] is not None for one in found):
                shapes = tuple(one[0] for one in found)  # type: ignore[index]
                self._note(value, shapes, found[0][1])  # type: ignore[index,arg-type]
            elif value.shape is not None and value.shape.is_static():
                shape = tuple(int(size) for size in value.shape)
                self._note(value, (shape, shape), value.dtype)
            else:
                self.dtypes[value.name or ""] = value.dtype

    def _infer(self, node: ir.Node, point: int) -> list[tuple[Shape | None, ir.DataType | None]] | None:
        domain = "" if is_standard(node) else node.domain
        version = self.versions.get(domain)
        if version is None or not onnx.defs.has(node.op_type, domain):
            return None
        types, data = {}, {}
        for value in node.inputs:
            if value is None:
                continue
            name = value.name or ""
            shape, dtype = self.shape(value, point), self.dtypes.get(name, value.dtype)
            if value in self.constants:
                dtype = value.dtype or ir.DataType.from_numpy(self.constants.array(name).dtype)
            if dtype is None or shape is None:
                return None
            types[name] = onnx.helper.make_tensor_type_proto(int(dtype), shape)
            elements = self.elements(value, point)
            if elements is not None and elements.dtype.kind in "iuf":
                data[name] = onnx.numpy_helper.from_array(elements)
        proto = ir.serde.serialize_node(node)
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain)
            imports = [onnx.helper.make_opsetid(name, number) for name, number in self.versions.items()]
            found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
        except Exception:  # of inference and of the C++ below it; then nothing is known
            return None
        return [_read(found.get(value.name or "")) for value in node.outputs]


def _read(found: onnx.TypeProto | None) -> tuple[Shape | None, ir.DataType | None]:
    if found is None or not found.HasField("tensor_type"):
        return None, None
    kind = found.tensor_type
    dtype = ir.DataType(kind.elem_type) if kind.elem_type else None
    if not kind.HasField("shape") or any(not d.HasField("dim_value") or d.dim_value < 0 for d in kind.shape.dim):
        return None, dtype
    return tuple(d.dim_value for d in kind.shape.dim), dtype
