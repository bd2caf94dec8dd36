"""Convolutions, transposed convolutions and products with a constant matrix."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from convfold.geometry import Axis, Window
from convfold.graph.captured import Constant
from convfold.graph.maps import Given, Map
from convfold.graph.onnx.reading import Reading, word
from convfold.graph.program import Linear, Node, ShiftGiven, Term
from convfold.graph.sizes import static

__all__ = ["pads_of"]


def pads_of(at: Reading, kernel: list[int], strides: list[int], dilations: list[int]) -> list[tuple[int, int]] | None:
    """The padding before and after each axis; None where ``auto_pad`` makes it follow the size."""
    mode = at.attr("auto_pad", "NOTSET") or "NOTSET"
    dims = len(kernel)
    if mode == "NOTSET":
        pads = at.attr("pads") or [0] * (2 * dims)
        return list(zip(pads[:dims], pads[dims:], strict=True))
    if mode == "VALID":
        return [(0, 0)] * dims
    source = at.source
    if source is None:
        return None
    found = []
    for size, taps, stride, dilation in zip(at.dims(source)[2:], kernel, strides, dilations, strict=True):
        reach, known = (taps - 1) * dilation + 1, static(size)
        if known is None and stride > 1:
            return None
        total = reach - 1 if known is None else max((-(-known // stride) - 1) * stride + reach - known, 0)
        less, more = total // 2, total - total // 2
        found.append((less, more) if mode == "SAME_UPPER" else (more, less))
    return found


def _linear(at: Reading, m: Map, bias: Any, key: Hashable = None) -> Node | None:
    source = at.source
    if source is None or not (bias is None or isinstance(bias, Constant)):
        return None
    shift = None if bias is None else ShiftGiven(bias.key if key is None else key)
    return Linear((Term(m, source.value),), shift, None if shift is None else m.axis)


@word("Conv")
def convolution(at: Reading) -> Node | None:
    """``Y[o] = sum_i W[o, i] * X[i] + B[o]``"""
    weight, source = at.input(1), at.source
    if source is None or not isinstance(weight, Constant):
        return None
    high, low, *kernel = at.dims(weight)
    dims = len(kernel)
    if not 1 <= dims <= 3 or len(at.dims(source)) != dims + 2:
        return None
    strides, dilations = at.attr("strides") or [1] * dims, at.attr("dilations") or [1] * dims
    pads = pads_of(at, kernel, strides, dilations)
    if pads is None:
        return None
    groups = at.attr("group", 1)
    window: Window = tuple(Axis(*row, *sides) for *row, sides in zip(kernel, strides, dilations, pads, strict=True))
    return _linear(at, Map("conv", high, low * groups, 1, window, groups, Given(weight.key)), at.input(2))


@word("ConvTranspose")
def transposed(at: Reading) -> Node | None:
    """The transposed map of a convolution."""
    weight, source = at.input(1), at.source
    if source is None or not isinstance(weight, Constant) or at.attr("output_shape"):
        return None
    low, high, *kernel = at.dims(weight)
    dims = len(kernel)
    if not 1 <= dims <= 3 or (at.attr("auto_pad", "NOTSET") or "NOTSET") not in ("NOTSET", "VALID"):
        return None
    strides, dilations = at.attr("strides") or [1] * dims, at.attr("dilations") or [1] * dims
    pads = pads_of(at, kernel, strides, dilations) or []
    extra = at.attr("output_padding") or [0] * dims
    groups = at.attr("group", 1)
    window: Window = tuple(
        Axis(*row, sides[0], sides[1] - more)
        for *row, sides, more in zip(kernel, strides, dilations, pads, extra, strict=True)
    )
    return _linear(at, Map("transposed", high * groups, low, 1, window, groups, Given(weight.key)), at.input(2))


@word("Gemm")
def product_and_bias(at: Reading) -> Node | None:
    """``alpha * A @ B + beta * C`` for constant B and a C that has one number per column."""
    matrix, bias = at.input(1), at.input(2)
    if not isinstance(matrix, Constant) or at.attr("transA", 0):
        return None
    high, low = at.dims(matrix)
    key: Hashable = matrix.key
    if not at.attr("transB", 0):
        high, low, key = low, high, ("transposed", key)
    alpha, beta = at.attr("alpha", 1.0), at.attr("beta", 1.0)
    key = key if alpha == 1 else ("times", key, alpha)
    if bias is not None:
        if not isinstance(bias, Constant) or at.dims(bias) not in ((high,), (1, high), (), (1,), (1, 1)):
            return None
        shift: Hashable = ("flat", bias.key)
        shift = shift if beta == 1 else ("times", shift, beta)
        return _linear(at, Map("conv", high, low, 1, (), 1, Given(key)), bias, shift)
    return _linear(at, Map("conv", high, low, 1, (), 1, Given(key)), None)


@word("MatMul")
def product(at: Reading) -> Node | None:
    """``A @ B`` for a constant matrix B"""
    return at.rule("matmul", self=at.input(0), other=at.input(1))
