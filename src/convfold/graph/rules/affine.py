"""Sums, scales and batch normalisations: what acts on each element or channel alone."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from convfold.graph.captured import Constant, Ref
from convfold.graph.maps import IDENTITY, Given, Map
from convfold.graph.operation import Operation, rule
from convfold.graph.program import Linear, Node, Shift, ShiftGiven, Term

__all__: list[str] = []


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _scalar(factor: float) -> Map:
    return IDENTITY if factor == 1 else Map("scalar", factor=float(factor))


def _channel(op: Operation, constant: Constant) -> tuple[int | None] | None:
    """(None,) for a constant of one element, (axis,) for one number per channel; None for anything else.

    The constant stands against the axes from the right.
    """
    dims = op.dims(constant)
    wide = [index for index, size in enumerate(dims) if size != 1]
    if len(dims) > len(op.out.dims) or len(wide) > 1:
        return None
    if not wide:
        return (None,)
    axis = wide[0] + len(op.out.dims) - len(dims)
    return (axis,) if op.out.dims[axis] == dims[wide[0]] else None


def _floating(op: Operation, constant: Constant) -> bool:
    """Whether the constant leaves the value's type alone: it has the type, or no dimensions."""
    meta = op.meta(constant)
    return meta.dtype == op.out.dtype or (not meta.dims and meta.dtype.is_floating_point)


def _shifted(op: Operation, term: Term, key: Hashable, axis: int | None) -> Node:
    shift: Shift = ShiftGiven(key)
    return Linear((term,), shift, axis)


def _plus(op: Operation, source: Any, factor: float, other: Any, alpha: float) -> Node | None:
    """``factor*source + alpha*other`` for a constant `other`."""
    value = op.value(source)
    if value is None or not op.same_shape(value):
        return None
    term = Term(_scalar(factor), value.value)
    if _number(other):
        return _shifted(op, term, ("scalar", float(alpha * other)), None)
    if not isinstance(other, Constant) or not _floating(op, other):
        return None
    where = _channel(op, other)
    if where is None:
        return None
    key: Hashable = ("flat", other.key)
    return _shifted(op, term, key if alpha == 1 else ("times", key, float(alpha)), where[0])


def _sum(op: Operation, one: Any, factor: Any, other: Any, alpha: Any) -> Node | None:
    """``factor*one + alpha*other``"""
    if not _number(factor) or not _number(alpha):
        return None
    if isinstance(one, Ref) and isinstance(other, Ref):
        left, right = op.value(one), op.value(other)
        if left is None or right is None or not op.same_shape(left) or not op.same_shape(right):
            return None
        return Linear((Term(_scalar(factor), left.value), Term(_scalar(alpha), right.value)))
    if isinstance(one, Ref):
        return _plus(op, one, factor, other, alpha)
    return _plus(op, other, alpha, one, factor)


@rule("add")
def add(op: Operation) -> Node | None:
    """``self + alpha*other``"""
    return _sum(op, op["self"], 1, op["other"], op["alpha"])


@rule("sub", "subtract")
def sub(op: Operation) -> Node | None:
    """``self - alpha*other``"""
    alpha = op.get("alpha", 1)
    return _sum(op, op["self"], 1, op["other"], -alpha) if _number(alpha) else None


@rule("rsub")
def rsub(op: Operation) -> Node | None:
    """``other - alpha*self``"""
    return _sum(op, op["self"], -op["alpha"], op["other"], 1) if _number(op["alpha"]) else None


@rule("neg", "negative")
def neg(op: Operation) -> Node | None:
    """``-self``"""
    return _times(op, op["self"], -1)


@rule("mul", "multiply")
def mul(op: Operation) -> Node | None:
    """``self * other``"""
    one, other = op["self"], op["other"]
    return _times(op, one, other) if isinstance(one, Ref) else _times(op, other, one)


@rule("div", "divide", "true_divide")
def div(op: Operation) -> Node | None:
    """``self / other``"""
    one, other = op["self"], op["other"]
    if not isinstance(one, Ref) or op.get("rounding_mode") is not None:
        return None
    if _number(other):
        return _times(op, one, 1 / other) if other else None
    return _times(op, one, other, inverse=True)


def _times(op: Operation, source: Any, other: Any, *, inverse: bool = False) -> Node | None:
    value = op.value(source)
    if value is None or not op.same_shape(value):
        return None
    if _number(other):
        return Linear((Term(_scalar(other), value.value),))
    if not isinstance(other, Constant) or not _floating(op, other):
        return None
    where = _channel(op, other)
    if where is None:
        return None
    key: Hashable = ("inverse", ("flat", other.key)) if inverse else ("flat", other.key)
    axis = where[0]
    if axis is None:
        return Linear((Term(Map("scalar", recipe=Given(key)), value.value),))
    channels = op.out.dims[axis]
    return Linear((Term(Map("diagonal", channels, channels, axis, recipe=Given(key)), value.value),))


_TRAINING = ("training", "train", "use_input_stats")


@rule(
    "batch_norm",
    "native_batch_norm",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "_batch_norm_with_update",
    "_batch_norm_no_update",
)
def norm(op: Operation) -> Node | None:
    """``(x - mean)/sqrt(var + eps)*weight + bias`` with running statistics."""
    source = op.source
    weight, bias, mean, variance = (op.get(name) for name in ("weight", "bias", "running_mean", "running_var"))
    held = all(isinstance(c, Constant) for c in (mean, variance)) and all(
        c is None or isinstance(c, Constant) for c in (weight, bias)
    )
    if source is None or any(op.get(name) for name in _TRAINING) or not held or len(op.out.dims) < 2:
        return None
    assert mean is not None
    assert variance is not None
    channels = op.channels(source, 1)
    if channels is None:
        return None
    scale = ("norm scale", None if weight is None else weight.key, variance.key, float(op["eps"]))
    shift = ShiftGiven(("norm shift", None if bias is None else bias.key, mean.key, scale))
    return Linear((Term(Map("diagonal", channels, channels, 1, recipe=Given(scale)), source.value),), shift, 1)


@rule("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(op: Operation) -> Node | None:
    """``self``: in eval mode."""
    source = op.source
    return None if source is None or op["train"] else Linear((Term(IDENTITY, source.value),))
