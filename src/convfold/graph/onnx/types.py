"""Types of ONNX tensors as torch has them, and one node evaluated alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx.reference import ReferenceEvaluator

__all__ = ["EPSILON", "dtype_of", "run_node", "to_tensor"]

# What a norm has where its node says nothing: an attribute is a number of 32 bits.
EPSILON = float(np.float32(1e-5))
_DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.INT64: torch.int64,
    ir.DataType.INT32: torch.int32,
    ir.DataType.BOOL: torch.bool,
}


def dtype_of(dtype: ir.DataType | None) -> torch.dtype:
    """The type in torch; one that is no number of the network's, such as text, stands as uint8."""
    return _DTYPES.get(dtype, torch.uint8) if dtype is not None else torch.uint8


def to_tensor(array: np.ndarray[Any, Any], dtype: torch.dtype | None) -> torch.Tensor:
    """A tensor of its own of an array, also of one in a mapped file; floating point in `dtype`, if that is given."""
    if array.dtype.kind == "b" or np.issubdtype(array.dtype, np.integer):
        return torch.from_numpy(np.array(array))
    if dtype is None and array.dtype in (np.float16, np.float32, np.float64):
        return torch.from_numpy(np.array(array))
    # bfloat16 and smaller types have no like in numpy itself.
    wide = np.float32 if dtype == torch.float32 else np.float64
    found = torch.from_numpy(array.astype(wide))
    return found if dtype is None else found.to(dtype)


@lru_cache(maxsize=256)
def _evaluator(node: bytes, version: int) -> ReferenceEvaluator:
    proto = onnx.NodeProto.FromString(node)
    # A node alone would be taken for one of the newest operator set.
    graph = onnx.GraphProto(node=[proto])
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(proto.input) if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output)
    return ReferenceEvaluator(graph, opsets={"": version})


def run_node(node: ir.Node, inputs: Sequence[np.ndarray[Any, Any] | None], version: int) -> list[Any]:
    """What one node of the default domain gives for these inputs, by onnx's own reference implementation."""
    proto = ir.serde.serialize_node(node)
    names = [name for name in proto.input if name]
    proto.name, proto.doc_string = "", ""
    del proto.metadata_props[:]
    # Not by name: two nodes alike but for the names of their tensors are one evaluator.
    renamed = {name: f"x{index}" for index, name in enumerate(dict.fromkeys(names))}
    feeds = {renamed[name]: value for name, value in zip(proto.input, inputs, strict=True) if name}
    proto.input[:] = [renamed.get(name, "") for name in proto.input]
    proto.output[:] = [f"y{index}" for index in range(len(proto.output))]
    return list(_evaluator(proto.SerializeToString(), version).run(None, feeds))
