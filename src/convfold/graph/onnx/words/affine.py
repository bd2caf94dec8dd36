"""Sums, scales and batch normalisations."""

from __future__ import annotations

from convfold.graph.captured import Constant, Ref
from convfold.graph.maps import IDENTITY
from convfold.graph.onnx.reading import Reading, word
from convfold.graph.onnx.types import EPSILON
from convfold.graph.program import Linear, Node, Term

__all__: list[str] = []


@word("Add")
def add(at: Reading) -> Node | None:
    """``A + B``"""
    return at.rule("add", self=at.input(0), other=at.input(1), alpha=1)


@word("Sub")
def sub(at: Reading) -> Node | None:
    """``A - B``"""
    return at.rule("sub", self=at.input(0), other=at.input(1), alpha=1)


@word("Mul")
def mul(at: Reading) -> Node | None:
    """``A * B``"""
    return at.rule("mul", self=at.input(0), other=at.input(1))


@word("Div")
def div(at: Reading) -> Node | None:
    """``A / B``"""
    return at.rule("div", self=at.input(0), other=at.input(1))


@word("Neg")
def neg(at: Reading) -> Node | None:
    """``-X``"""
    return at.rule("neg", self=at.input(0))


@word("Sum")
def total(at: Reading) -> Node | None:
    """``A + B + ...`` of values of one shape."""
    op = at.operation("sum", {})
    values = [given if isinstance(given, Ref) and op.same_shape(given) else None for given in at.inputs]
    if any(value is None or op.value(value) is None for value in values):
        return None
    return Linear(tuple(Term(IDENTITY, value.value) for value in values if value is not None))


@word("BatchNormalization")
def norm(at: Reading) -> Node | None:
    """``(X - mean)/sqrt(var + epsilon)*scale + B`` with constant statistics."""
    held = [at.input(index) for index in range(1, 5)]
    trains = at.attr("training_mode", 0) or (at.version < 14 and len(at.node.outputs) > 1)
    if trains or at.attr("spatial", 1) != 1 or not all(isinstance(c, Constant) for c in held):
        return None
    scale, bias, mean, variance = held
    return at.rule(
        "batch_norm", input=at.input(0), weight=scale, bias=bias, running_mean=mean, running_var=variance,
        training=False, eps=at.attr("epsilon", EPSILON),
    )  # fmt: skip


@word("Identity")
def identity(at: Reading) -> Node | None:
    """``X``"""
    return at.same()


@word("Dropout")
def dropout(at: Reading) -> Node | None:
    """``X``: outside training."""
    mode = at.numbers(2)
    trains = at.follows(2) or (mode is not None and bool(mode[0]))
    return None if trains else at.same()


@word("Cast", "CastLike")
def cast(at: Reading) -> Node | None:
    """``X``, where its type stays."""
    return at.same()
