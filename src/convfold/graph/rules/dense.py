"""Convolutions, transposed convolutions and products with a constant matrix."""

from __future__ import annotations

from typing import Any

from convfold.errors import InvalidArgument
from convfold.geometry import Axis, Window, conv_window
from convfold.graph.captured import Constant
from convfold.graph.maps import Given, Map
from convfold.graph.operation import Operation, plain, rule
from convfold.graph.program import Linear, Node, ShiftGiven, Term

__all__: list[str] = []


def _listed(value: Any, dims: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return values * dims if len(values) == 1 else values


def _linear(op: Operation, m: Map, bias: Any) -> Node | None:
    source = op.source
    if source is None or not (bias is None or isinstance(bias, Constant)):
        return None
    shift = None if bias is None else ShiftGiven(bias.key)
    return Linear((Term(m, source.value),), shift, None if shift is None else m.axis)


@rule("conv1d", "conv2d", "conv3d", "convolution", "_convolution")
def convolution(op: Operation) -> Node | None:
    """``out[o] = sum_i weight[o, i] * x[i] + bias[o]``"""
    weight = op["weight"]
    if not isinstance(weight, Constant) or not plain(op["stride"], op["padding"], op["dilation"]):
        return None
    if op.get("transposed"):
        return _transposed(op, weight)
    high, low, *kernel = op.dims(weight)
    dims = len(kernel)
    padding = op["padding"] if isinstance(op["padding"], str) else _listed(op["padding"], dims)
    try:
        window = conv_window(dims, tuple(kernel), _listed(op["stride"], dims), padding, _listed(op["dilation"], dims))
    except InvalidArgument:
        return None
    axis = len(op.out.dims) - dims - 1
    return _linear(op, Map("conv", high, low * op["groups"], axis, window, op["groups"], Given(weight.key)), op["bias"])


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def transposed(op: Operation) -> Node | None:
    """The transposed map of a convolution."""
    weight = op["weight"]
    if not isinstance(weight, Constant) or not plain(*(op[n] for n in ("stride", "padding", "dilation"))):
        return None
    return _transposed(op, weight)


def _transposed(op: Operation, weight: Constant) -> Node | None:
    if not plain(op["output_padding"]):
        return None
    low, high, *kernel = op.dims(weight)
    rows = zip(
        kernel,
        *(_listed(op[name], len(kernel)) for name in ("stride", "dilation", "padding", "output_padding")),
        strict=True,
    )
    window: Window = tuple(Axis(k, s, d, p, p - extra) for k, s, d, p, extra in rows)
    axis = len(op.out.dims) - len(kernel) - 1
    m = Map("transposed", high * op["groups"], low, axis, window, op["groups"], Given(weight.key))
    return _linear(op, m, op["bias"])


@rule("linear")
def linear(op: Operation) -> Node | None:
    """``x @ weight.T + bias`` on the last axis."""
    weight = op["weight"]
    if not isinstance(weight, Constant) or len(op.dims(weight)) != 2:
        return None
    high, low = op.dims(weight)
    m = Map("conv", high, low, len(op.out.dims) - 1, (), 1, Given(weight.key))
    return _linear(op, m, op["bias"])


def _product(op: Operation, source: Any, matrix: Any, bias: Any) -> Node | None:
    source = op.value(source)
    if source is None or not isinstance(matrix, Constant) or len(op.dims(matrix)) != 2:
        return None
    low, high = op.dims(matrix)
    m = Map("conv", high, low, len(op.out.dims) - 1, (), 1, Given(("transposed", matrix.key)))
    shift = None
    if bias is not None:
        if not isinstance(bias, Constant) or op.dims(bias) not in ((high,), (1, high)):
            return None
        shift = ShiftGiven(("flat", bias.key))
    return Linear((Term(m, source.value),), shift, None if shift is None else m.axis)


@rule("mm", "matmul")
def product(op: Operation) -> Node | None:
    """``x @ matrix``"""
    left, right = list(op.named.values())[:2]
    return _product(op, left, right, None)


@rule("addmm")
def product_and_bias(op: Operation) -> Node | None:
    """``bias + x @ matrix``"""
    if op["alpha"] != 1 or op["beta"] != 1:
        return None
    return _product(op, op["mat1"], op["mat2"], op["self"])
