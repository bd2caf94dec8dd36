"""How far the outputs of two files are apart, and how far they may be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import torch

from convfold.errors import NotEqual
from convfold.graph.onnx.evaluate_numbers import Array
from convfold.verify.certificate import compare
from convfold.verify.onnx.certificate import FileProbe

__all__ = ["Outputs", "check_same_form", "is_plausible", "judge", "longest_reduction"]

Outputs = dict[str, Any]


def longest_reduction(*models: ir.Model) -> int:
    """The most products with constants that one number of a model adds up."""
    longest = 1
    for model in models:
        for node in model.graph.all_nodes():
            for place, value in enumerate(node.inputs):
                shape = _constant_shape(value)
                if shape and math.prod(shape):
                    longest = max(longest, _reduction(node, place, shape))
    return longest


def _constant_shape(value: ir.Value | None) -> tuple[int, ...]:
    shape = None if value is None else value.shape if value.const_value is None else value.const_value.shape
    return tuple(n if isinstance(n, int) else 0 for n in shape) if shape is not None else ()


def _reduction(node: ir.Node, place: int, shape: tuple[int, ...]) -> int:
    if len(shape) < 2:
        return 1
    if node.op_type == "Conv" and place == 1:
        return math.prod(shape[1:])
    if node.op_type == "ConvTranspose" and place == 1:
        return math.prod(shape) // shape[1] // max(node.attributes.get_int("group", 1), 1)
    if node.op_type == "Gemm" and place == 1:
        return shape[1 if node.attributes.get_int("transB", 0) else 0]
    if node.op_type == "MatMul" and place < 2:
        return shape[-2] if place else shape[-1]
    return 1


def check_same_form(where: str, first: Outputs, second: Outputs) -> None:
    """Raises NotEqual when outputs differ in type or shape."""
    for name, one in first.items():
        two = second[name]
        if type(one) is not type(two):
            raise NotEqual(f"output {name!r} is of another kind", where=where, got=_kind(two), expected=_kind(one))
        if isinstance(one, np.ndarray) and (one.dtype != two.dtype or one.shape != two.shape):
            raise NotEqual(f"output {name!r} has another form", where=where, got=_kind(two), expected=_kind(one))


def _kind(value: Any) -> str:
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__


def _is_real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and (value.dtype.kind == "f" or value.dtype == ml_dtypes.bfloat16)


def _distance(reference: Array, other: Array, scale: float) -> tuple[float, float, float]:
    return compare(_tensor(reference), _tensor(other), scale)


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float64).reshape(array.shape))


def _scale(array: Array) -> float:
    """The largest finite value."""
    values = np.abs(array.astype(np.float64, copy=False))
    values = values[np.isfinite(values)]
    return float(values.max() if values.size else 1.0) or 1.0


def _unit(array: Array) -> float:
    return float(ml_dtypes.finfo(array.dtype).eps)


def is_plausible(own: Outputs, reference: Outputs) -> bool:
    """Whether `reference` is what a file computes but for roundings, and not another reading of an operator.

    What roundings rarely come to (in float32, 2e-5 of the largest output) is left to the other law, which need not
    trust two readings of the same operator.
    """
    for name, value in own.items():
        if _is_real(value):
            wide = reference[name]
            if wide.shape != value.shape:
                return False
            if not _distance(wide, value, _scale(wide))[0] <= _unit(value) ** (2 / 3):
                return False
    return True


def judge(
    name: str,
    shapes: tuple[tuple[int, ...], ...],
    first: Outputs,
    second: Outputs,
    reference: Outputs | None,
    others: Sequence[Outputs],
    roundings: float,
) -> FileProbe:
    """The output that came closest to its bound.

    `reference` is the float64 one, if there is one; `others` are other runs of the first file, which sum in other
    orders or start from inputs moved by a rounding. `roundings` is ``2 sqrt(L)``.
    """
    worst = FileProbe(name, shapes, 0.0, 0.0, 0.0, 0.0, 0.0, reference is not None, 0.0, None)
    squares, own_squares = 0.0, 0.0
    for output, value in first.items():
        if not _is_real(value):
            probe = _exact(worst, value, second[output], [run[output] for run in others])
        else:
            wide = value if reference is None else reference[output]
            scale, unit = _scale(wide), _unit(value)
            error, border, interior = _distance(wide, second[output], scale)
            known = [value] if reference is not None else [run[output] for run in others]
            own = max((_distance(wide, run, scale)[0] for run in known), default=0.0)
            bound = roundings * max(own if math.isfinite(own) else 0.0, unit)
            squares += _l2(wide, second[output]) ** 2
            # An error below half a rounding is luck, and no measure for the other file.
            own_squares += max(_l2(wide, value), unit / 2) ** 2
            probe = FileProbe(name, shapes, error, bound, border, interior, own, reference is not None, 0.0, None)
        if probe.error * max(worst.bound, 1e-300) >= worst.error * max(probe.bound, 1e-300):
            worst = probe
    own_l2 = math.sqrt(own_squares) if reference is not None and own_squares else None
    return FileProbe(**{**worst.__dict__, "l2": math.sqrt(squares), "own_l2": own_l2})


def _exact(probe: FileProbe, first: Any, second: Any, others: list[Any]) -> FileProbe:
    """Indices, masks and texts: the share that differs and that the first file's other runs agree on."""
    if not isinstance(first, np.ndarray):
        error = 0.0 if _equal(first, second) else 1.0
    else:
        differs = np.asarray(first != second)
        for other in others:
            differs = differs & np.asarray(first == other) if other.shape == first.shape else differs & False
        error = float(differs.mean()) if differs.size else 0.0
    return FileProbe(**{**probe.__dict__, "error": error, "bound": 0.0, "border_error": error, "interior_error": error})


def _equal(first: Any, second: Any) -> bool:
    """Sequences and maps of tensors, compared exactly."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)


def _l2(wide: Array, other: Array) -> float:
    """The L2 norm of the distance, relative to that of `wide`, over what is finite in both."""
    a, b = wide.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    return float(np.linalg.norm(a - b)) / (float(np.linalg.norm(a)) or 1.0)
