"""Random inputs of an ONNX model: noise where it is real, indices that exist where it is whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir

from convfold.errors import InvalidArgument
from convfold.graph.onnx.evaluate_numbers import Array
from convfold.graph.onnx.read_parts import printable

__all__ = ["bounds", "moved", "random_inputs"]

# Numbers in one input, beyond which there is no use in trying.
MOST = 2**30
# Operators whose result holds the indices that they read.
_CARRIERS = frozenset(
    ("Cast", "Concat", "Expand", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
)
# Operators that read indices, with the input that holds them.
_READERS = {"Gather": 1, "GatherElements": 1}
_REAL = (np.float16, np.float32, np.float64, ml_dtypes.bfloat16)


def bounds(model: ir.Model) -> dict[str, int]:
    """The number below which whole inputs are drawn: what they index where that is known, 2 (a mask) elsewhere."""
    found = {}
    for value in model.graph.inputs:
        if value.dtype is None or value.name is None:
            continue
        narrow = value.dtype in (ir.DataType.UINT8, ir.DataType.INT8)
        found[value.name] = min(_indexed(value), default=128 if narrow else 2)
    return found


def _indexed(value: ir.Value) -> list[int]:
    """The lengths of what is indexed by a value, or by what carries it on."""
    lengths, waiting, seen = [], [value], {value}
    while waiting:
        for node, place in waiting.pop().uses():
            if node.op_type in _CARRIERS:
                fresh = [result for result in node.outputs if result not in seen]
                seen.update(fresh)
                waiting.extend(fresh)
            elif _READERS.get(node.op_type) == place and node.inputs[0] is not None:
                shape = node.inputs[0].shape
                axis = node.attributes.get_int("axis", 0)
                length = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
                if isinstance(length, int):
                    lengths.append(max(length, 1))
    return lengths


def random_inputs(model: ir.Model, shapes: Mapping[str, Sequence[int]], seed: int) -> dict[str, Array]:
    """An input of each shape. Raises InvalidArgument for names that are missing, and inputs that are no numbers."""
    generator = np.random.default_rng(seed)
    below = bounds(model)
    found: dict[str, Array] = {}
    for value in model.graph.inputs:
        name = value.name or ""
        if name not in shapes and value.const_value is not None:  # a weight that could be replaced
            continue
        if name not in shapes:
            raise InvalidArgument("no shape is given for this input", where=repr(printable(name)))
        if math.prod(shapes[name]) > MOST or min(shapes[name], default=1) < 0:
            got = list(shapes[name])
            raise InvalidArgument("no input of this shape can be made up", where=repr(printable(name)), got=got)
        kind = None if value.dtype is None or not isinstance(value.type, ir.TensorType) else value.dtype
        dtype = None if kind in (None, ir.DataType.STRING, ir.DataType.UNDEFINED) else kind.numpy()
        if dtype in _REAL:
            found[name] = np.asarray(generator.standard_normal(tuple(shapes[name]))).astype(dtype)
        elif dtype is not None and np.dtype(dtype).kind in "iub":
            found[name] = np.asarray(generator.integers(0, below[name], tuple(shapes[name]))).astype(dtype)
        else:
            raise InvalidArgument(
                "inputs of this type are not made up", where=repr(printable(name)), got=str(value.type)
            )
    return found


def moved(feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """The same inputs with every real number moved by about one rounding."""
    generator = np.random.default_rng(seed)
    found = {}
    for name, array in feeds.items():
        if array.dtype in _REAL:
            wide = array.astype(np.float64)
            unit = float(ml_dtypes.finfo(array.dtype).eps)
            found[name] = (wide * (1 + unit * generator.choice([-1.0, 1.0], array.shape))).astype(array.dtype)
        else:
            found[name] = array
    return found
