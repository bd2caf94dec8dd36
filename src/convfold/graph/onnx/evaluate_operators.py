"""Operators of ONNX that the float64 reference computes itself, where speed or precision asks for it.

onnx's own implementations are slow for some, and round to float32 on the way in others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.graph.onnx.evaluate_numbers import Array, as_array, as_tensor, is_wide
from convfold.graph.onnx.evaluate_windows import Attributes, average_pool, conv, conv_transpose, max_pool
from convfold.graph.onnx.types import EPSILON

__all__ = ["own_operator"]

# Takes the opset, the attributes and the inputs; returns the outputs, or None for onnx's implementation.
Rule = Callable[[int, Attributes, list[Any]], list[Any] | None]


def own_operator(name: str, opset: int, attributes: Attributes, inputs: list[Any], outputs: int) -> list[Any] | None:
    """The results of an operator of ai.onnx, or None where it is left to onnx's implementation.

    `inputs` may hold None for those left out; `outputs` says how many results are asked for.
    """
    if name == "DequantizeLinear":
        return _dequantize(attributes, *inputs)
    if outputs > _OUTPUTS.get(name, 1) or not all(value is None or is_wide(value) for value in inputs):
        return None
    rule = _RULES.get(name)
    return rule(opset, attributes, inputs) if rule else None


def _torch(function: Callable[..., Tensor], **defaults: float) -> Rule:
    """An elementwise function of one tensor and of attributes with these defaults."""

    def rule(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any] | None:
        if len(inputs) != 1:
            return None
        given = [attributes.get(name, default) for name, default in defaults.items()]
        return [as_array(function(as_tensor(inputs[0]), *given))]

    return rule


def _folded(function: Callable[[Array, Array], Array]) -> Rule:
    return lambda opset, attributes, inputs: [np.asarray(reduce(function, inputs))]


def _windowed(function: Callable[..., Array]) -> Rule:
    def rule(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any] | None:
        return [function(attributes, *inputs)] if 3 <= inputs[0].ndim <= 5 else None

    return rule


def _spatial(function: Callable[[Array, tuple[int, ...]], Array]) -> Rule:
    def rule(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
        axes = tuple(range(2, inputs[0].ndim))
        return [function(inputs[0], axes).reshape(*inputs[0].shape[:2], *[1] * len(axes))]

    return rule


def _batch_norm(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any] | None:
    if attributes.get("training_mode") or not attributes.get("spatial", 1):
        return None
    x, scale, bias, mean, variance = inputs
    shape = (-1, *[1] * (x.ndim - 2))
    factor = scale / np.sqrt(variance + attributes.get("epsilon", EPSILON))
    return [(x - mean.reshape(shape)) * factor.reshape(shape) + bias.reshape(shape)]


def _normalised(x: Array, axes: tuple[int, ...], epsilon: float, centred: bool = True) -> tuple[Array, Array, Array]:
    mean = x.mean(axes, keepdims=True) if centred else np.zeros(())
    factor = 1 / np.sqrt(((x - mean) ** 2).mean(axes, keepdims=True) + epsilon)
    return (x - mean) * factor, mean, factor


def _layer_norm(centred: bool) -> Rule:
    def rule(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
        x, scale, bias = (*inputs, None)[:3]
        axes = tuple(range(attributes.get("axis", -1) % x.ndim, x.ndim))
        y, mean, factor = _normalised(x, axes, attributes.get("epsilon", EPSILON), centred)
        y = y * scale
        return [y if bias is None else y + bias, *((mean, factor) if centred else ())]

    return rule


def _instance_norm(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
    x, scale, bias = inputs
    shape = (-1, *[1] * (x.ndim - 2))
    y = _normalised(x, tuple(range(2, x.ndim)), attributes.get("epsilon", EPSILON))[0]
    return [y * scale.reshape(shape) + bias.reshape(shape)]


def _group_norm(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
    x, scale, bias = inputs
    groups = attributes["num_groups"]
    y = _normalised(x.reshape(x.shape[0], groups, -1), (2,), attributes.get("epsilon", EPSILON))[0].reshape(x.shape)
    if opset < 21:  # one scale for each group
        scale, bias = (np.repeat(value, x.shape[1] // groups) for value in (scale, bias))
    shape = (-1, *[1] * (x.ndim - 2))
    return [y * scale.reshape(shape) + bias.reshape(shape)]


def _softmax(function: Callable[[Tensor, int], Tensor]) -> Rule:
    def rule(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
        x = as_tensor(inputs[0])
        if opset >= 13:
            return [as_array(function(x, attributes.get("axis", -1)))]
        axis = attributes.get("axis", 1)
        axis = axis + x.dim() if axis < 0 else axis
        rows = math.prod(x.shape[:axis])
        return [as_array(function(x.reshape(rows, math.prod(x.shape[axis:])), 1).reshape(x.shape))]

    return rule


def _gemm(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
    a, b, c = (*inputs, None)[:3]
    a = a.T if attributes.get("transA") else a
    b = b.T if attributes.get("transB") else b
    y = attributes.get("alpha", 1.0) * (a @ b)
    return [y if c is None else y + attributes.get("beta", 1.0) * c]


def _clip(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
    x, low, high = (*inputs, None, None)[:3]
    low = attributes.get("min", -np.inf) if low is None else low
    high = attributes.get("max", np.inf) if high is None else high
    return [np.minimum(np.maximum(x, low), high)]


def _gelu(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
    return [as_array(F.gelu(as_tensor(inputs[0]), approximate=attributes.get("approximate", "none")))]


def _lrn(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
    x, size = inputs[0], attributes["size"]
    before, behind = (size - 1) // 2, size // 2
    squares = np.pad(x**2, [(0, 0), (before, behind), *[(0, 0)] * (x.ndim - 2)])
    total = sum(squares[:, start : start + x.shape[1]] for start in range(size))
    scale = attributes.get("bias", 1.0) + attributes.get("alpha", 1e-4) / size * total
    return [x / scale ** attributes.get("beta", 0.75)]


def _grid_sample(opset: int, attributes: Attributes, inputs: list[Any]) -> list[Any]:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(attributes.get("mode", "linear"), attributes.get("mode"))
    padding, aligned = attributes.get("padding_mode", "zeros"), bool(attributes.get("align_corners"))
    x, grid = map(as_tensor, inputs)
    return [as_array(F.grid_sample(x, grid, str(mode), padding, aligned))]


def _dequantize(attributes: Attributes, x: Array, scale: Array, zero: Array | None = None) -> list[Any] | None:
    if x.dtype.kind not in "iu" or not is_wide(scale) or attributes.get("block_size"):
        return None

    def along(value: Array) -> Array:
        if value.size == 1:
            return value.reshape(())
        axis = attributes.get("axis", 1) % x.ndim
        return value.reshape([-1 if i == axis else 1 for i in range(x.ndim)])

    shift = 0.0 if zero is None else along(zero.astype(np.float64))
    return [(x.astype(np.float64) - shift) * along(scale)]


def _prelu(opset: int, attributes: Attributes, inputs: Sequence[Any]) -> list[Any]:
    x, slope = inputs
    return [np.where(x < 0, x * slope, x)]


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


# How many results a rule gives, where it is not one.
_OUTPUTS = {"LayerNormalization": 3}

_RULES: dict[str, Rule] = {
    "Add": _folded(np.add),
    "Sub": _folded(np.subtract),
    "Mul": _folded(np.multiply),
    "Div": _folded(np.divide),
    "Sum": _folded(np.add),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "MatMul": lambda opset, attributes, inputs: [as_array(torch.matmul(*map(as_tensor, inputs)))],
    "Gemm": _gemm,
    "Conv": _windowed(conv),
    "ConvTranspose": _windowed(conv_transpose),
    "AveragePool": _windowed(average_pool),
    "MaxPool": _windowed(max_pool),
    "GlobalAveragePool": _spatial(lambda x, axes: x.mean(axes)),
    "GlobalMaxPool": _spatial(lambda x, axes: x.max(axes)),
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm(True),
    "RMSNormalization": _layer_norm(False),
    "GroupNormalization": _group_norm,
    "Softmax": _softmax(torch.softmax),
    "LogSoftmax": _softmax(torch.log_softmax),
    "Relu": _torch(torch.relu),
    "Sigmoid": _torch(torch.sigmoid),
    "Tanh": _torch(torch.tanh),
    "Exp": _torch(torch.exp),
    "Erf": _torch(torch.erf),
    "Sqrt": _torch(torch.sqrt),
    "Softplus": _torch(lambda x: torch.logaddexp(x, torch.zeros((), dtype=x.dtype))),
    "LeakyRelu": _torch(F.leaky_relu, alpha=0.01),
    "Elu": _torch(F.elu, alpha=1.0),
    "HardSigmoid": _torch(_hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": _torch(F.hardswish),
    "Mish": _torch(F.mish),
    "Swish": _torch(lambda x, alpha: x * torch.sigmoid(alpha * x), alpha=1.0),
    "Gelu": _gelu,
    "Clip": _clip,
    "PRelu": _prelu,
    "GridSample": _grid_sample,
    "LRN": _lrn,
}
