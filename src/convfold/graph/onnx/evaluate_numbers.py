"""Numbers of the float64 reference: what is real is float64, everything else is as the model has it."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Array", "as_array", "as_tensor", "cast", "is_wide", "rounded", "widened"]

Array = NDArray[Any]

_NARROW = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16))
_ROUNDING = {ir.DataType.FLOAT16: np.float16, ir.DataType.BFLOAT16: ml_dtypes.bfloat16}


def widened(value: Any) -> Any:
    """`value` in float64 if it is real; lists of tensors element by element."""
    if isinstance(value, list):
        return [widened(item) for item in value]
    if isinstance(value, np.ndarray | np.generic) and value.dtype in _NARROW:
        return np.asarray(value, np.float64)
    return value


def is_wide(value: Any) -> bool:
    """Whether it is an array of float64."""
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def rounded(value: Array, kind: ir.DataType) -> Array:
    """Values of float64 rounded to a type of 16 bits; to others of the reals they stay as they are."""
    narrow = _ROUNDING.get(kind)
    if narrow is None:
        return value
    with np.errstate(over="ignore"):
        return value.astype(narrow).astype(np.float64)


def cast(value: Array, kind: ir.DataType) -> Array | None:
    """Cast between numbers that are real on both sides, or become so; None where that is left to onnx."""
    if kind not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, *_ROUNDING) or value.dtype.kind not in "fiub":
        return None
    return rounded(value.astype(np.float64), kind)


def as_tensor(value: Array) -> Tensor:
    """The same memory as a tensor, or a copy where torch cannot take it."""
    if not value.flags.writeable or any(stride < 0 for stride in value.strides):
        value = value.copy()
    return torch.from_numpy(value)


def as_array(value: Tensor) -> Array:
    """The same memory as an array."""
    array: Array = value.numpy()
    return array
