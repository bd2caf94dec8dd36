"""Weights of a written file: computed in float64 when they are serialised, cast once, and not kept."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor, to_torch_dtype
from torch import Tensor

from convfold.algebra import Affine
from convfold.algebra.laws.compose import regroup
from convfold.errors import NotFoldable, Refusal
from convfold.graph.maps import Map
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.program import Shift
from convfold.graph.weights import Weights

__all__ = ["float_type", "kernel", "lazily", "scale", "shift_vector"]

_FLOATS = {
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
}
Make = Callable[[Weights], Tensor]


def float_type(name: str) -> ir.DataType:
    """The type in a file of a value of the program. Raises NotFoldable for what no weight is written in."""
    if name not in _FLOATS:
        raise NotFoldable(Refusal("region", f"its values are {name}, which no weights are folded in"))
    return _FLOATS[name]


def lazily(captured: CapturedFile, make: Make, shape: tuple[int, ...], dtype: ir.DataType, name: str) -> ir.LazyTensor:
    """The tensor that `make` gives, of that shape, when it is asked for."""

    def build() -> TorchTensor:
        with torch.no_grad():
            found = make(Weights(captured.tensor))
            assert tuple(found.shape) == shape, f"{name}: {tuple(found.shape)} is not {shape}"
            return TorchTensor(found.to(to_torch_dtype(dtype)).contiguous(), name=name)

    return ir.LazyTensor(build, dtype=dtype, shape=ir.Shape(shape), name=name)


def kernel(m: Map, dims: int) -> Make:
    """The kernel of a dense map on `dims` spatial axes: (O, I/g, *k), of a transposed one (I, O/g, *k)."""

    def make(weights: Weights) -> Tensor:
        conv = weights.conv(m, dims, m.cols)
        return conv.weight if m.kind == "transposed" else regroup(conv.weight, conv.groups, m.groups)

    return make


def scale(m: Map, behind: int) -> Make:
    """The factors of a diagonal before `behind` axes, or the one of a scalar."""

    def make(weights: Weights) -> Tensor:
        op = weights.op(m, 0, m.rows or 1)
        assert isinstance(op, Affine)
        assert op.scale is not None
        return op.scale.reshape(-1, *(1,) * behind) if m.kind == "diagonal" else op.scale[0]

    return make


def shift_vector(shift: Shift, channels: int, shape: tuple[int, ...]) -> Make:
    """The bias of so many channels, as `shape`."""

    def make(weights: Weights) -> Tensor:
        found = weights.vector(shift, channels)
        return found.expand(shape) if found.dim() > 1 else found.reshape(shape)

    return make
