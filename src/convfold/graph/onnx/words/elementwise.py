"""Functions of each element alone."""

from __future__ import annotations

from convfold.graph.captured import Constant, Ref
from convfold.graph.onnx.reading import Reading, word
from convfold.graph.program import Elementwise, Node

__all__: list[str] = []


@word(
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Elu", "Erf",
    "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish", "Reciprocal", "Relu", "Round",
    "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
    "ThresholdedRelu", "Pow", "PRelu",
)  # fmt: skip
def unary(at: Reading) -> Node | None:
    """``f(X)`` with constant numbers as its other arguments."""
    source = at.source
    rest = at.inputs[1:]
    if source is None or not at.operation("", {"self": source}).same_shape(source):
        return None
    if any(given is not None and not isinstance(given, Constant) for given in rest):
        return None
    if any(given is not None and any(size != 1 for size in at.dims(given)) for given in rest):
        return None
    numbers = tuple(None if given is None else (at.numbers(i + 1) or [0])[0] for i, given in enumerate(rest))
    attributes = tuple(sorted((name, repr(a.value)) for name, a in at.node.attributes.items()))
    return Elementwise(source.value, (at.node.op_type, attributes, numbers), at.number)


@word("Max", "Min")
def bound(at: Reading) -> Node | None:
    """The larger or the smaller of X and constant numbers, in any order."""
    values = [given for given in at.inputs if not isinstance(given, Constant)]
    if len(values) != 1 or not isinstance(values[0], Ref):
        return None
    op = at.operation("", {"self": values[0]})
    if op.source is None or not op.same_shape(values[0]):
        return None
    held = [at.numbers(index) for index in range(len(at.inputs))]
    if any(numbers is not None and len(numbers) != 1 for numbers in held):
        return None
    numbers = tuple(sorted(found[0] for found in held if found is not None))
    return Elementwise(values[0].value, (at.node.op_type, (), numbers), at.number)
