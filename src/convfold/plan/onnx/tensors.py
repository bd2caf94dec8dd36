"""Weights of a written file: computed in float64 when they are serialised, cast once, and not kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

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
from convfold.graph.slices import rows_of
from convfold.graph.weights import Weights

__all__ = ["Kernel", "float_type", "lazily", "scale", "shift_vector"]

_FLOATS = {
    "float16": ir.DataType.FLOAT16,
    "bfloat16": ir.DataType.BFLOAT16,
    "float32": ir.DataType.FLOAT,
    "float64": ir.DataType.DOUBLE,
}
Make = Callable[[Weights], Tensor]
# Elements of a kernel that are computed at once: float64 of a whole one would be the most that a fold holds.
_PART = 2**21


def float_type(name: str) -> ir.DataType:
    """The type in a file of a value of the program. Raises NotFoldable for what no weight is written in."""
    if name not in _FLOATS:
        raise NotFoldable(Refusal("region", f"its values are {name}, which no weights are folded in"))
    return _FLOATS[name]


def lazily(captured: CapturedFile, make: Make, shape: tuple[int, ...], dtype: ir.DataType, name: str) -> ir.LazyTensor:
    """The tensor that `make` gives, of that shape, when it is asked for."""

    def build() -> TorchTensor:
        with torch.no_grad():
            parts = make.parts(shape) if isinstance(make, Kernel) else []
            if parts:
                return TorchTensor(_in_parts(captured, parts, shape, to_torch_dtype(dtype)), name=name)
            found = make(Weights(captured.tensor))
            assert tuple(found.shape) == shape, f"{name}: {tuple(found.shape)} is not {shape}"
            return TorchTensor(found.to(to_torch_dtype(dtype)).contiguous(), name=name)

    return ir.LazyTensor(build, dtype=dtype, shape=ir.Shape(shape), name=name)


def _in_parts(
    captured: CapturedFile, parts: list[tuple[int, int, Kernel]], shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    whole = torch.empty(shape, dtype=dtype)
    for start, stop, part in parts:
        axis = 1 if part.map.kind == "transposed" else 0
        whole.narrow(axis, start, stop - start).copy_(part(Weights(captured.tensor)))
    return whole


@dataclass(frozen=True)
class Kernel:
    """The kernel of a dense map on `dims` spatial axes: (O, I/g, *k), of a transposed one (I, O/g, *k)."""

    map: Map
    dims: int

    def __call__(self, weights: Weights) -> Tensor:
        conv = weights.conv(self.map, self.dims, self.map.cols)
        return conv.weight if self.map.kind == "transposed" else regroup(conv.weight, conv.groups, self.map.groups)

    def parts(self, shape: tuple[int, ...]) -> list[tuple[int, int, Kernel]]:
        """A large kernel as rows that are made one after another; empty for another, and where rows need each other."""
        m = self.map
        step = max(_PART * m.rows // prod(shape), 1)
        if step >= m.rows:
            return []
        try:
            starts = range(0, m.rows, step)
            return [(a, b, Kernel(rows_of(m, a, b), self.dims)) for a in starts for b in [min(a + step, m.rows)]]
        except NotFoldable:
            return []


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
