"""Functions of each element alone."""

from __future__ import annotations

from convfold.graph.captured import Constant
from convfold.graph.operation import Operation, plain, rule
from convfold.graph.program import Elementwise, Node

__all__: list[str] = []


@rule(
    "abs", "acos", "arctan", "asin", "atan", "ceil", "celu", "clamp", "clamp_max", "clamp_min", "clip", "cos", "cosh",
    "elu", "erf", "exp", "expm1", "floor", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu",
    "log", "log10", "log1p", "log2", "log_sigmoid", "mish", "nan_to_num", "pow", "reciprocal", "relu", "relu6",
    "round", "rsqrt", "selu", "sigmoid", "sign", "silu", "sin", "sinh", "softplus", "softshrink", "sqrt", "square",
    "tan", "tanh", "threshold", "trunc",
)  # fmt: skip
def unary(op: Operation) -> Node | None:
    """``f(self)`` with numbers as its other arguments."""
    source = op.source
    others = list(op.named.items())[1:]
    if source is None or not op.same_shape(source) or not plain(*(value for _, value in others)):
        return None
    return Elementwise(source.value, (op.name, *((name, repr(value)) for name, value in others)), op.number)


@rule("prelu")
def prelu(op: Operation) -> Node | None:
    """``max(0, self) + weight*min(0, self)`` with one weight for all elements."""
    source, weight = op.source, op["weight"]
    if source is None or not isinstance(weight, Constant) or any(size != 1 for size in op.dims(weight)):
        return None
    return Elementwise(source.value, ("prelu", weight.key), op.number)
