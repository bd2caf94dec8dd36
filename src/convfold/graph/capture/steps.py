"""Running recorded operators: constants, and values of a program from other values."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import sympy
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from convfold.errors import InvalidArgument
from convfold.graph.captured import Captured, Constant, Ref, Size, Step
from convfold.graph.inputs import ExampleInputs

__all__ = ["bind", "evaluate", "functional", "interpret", "out_of_place", "run"]

_HALF_TO_DOUBLE = (torch.float16, torch.bfloat16, torch.float32)


def out_of_place(target: Any) -> Any | None:
    """The operator that computes what the in-place `target` does, into a new tensor; None where there is none."""
    namespace, name = target._schema.name.split("::")
    if not name.endswith("_"):
        return None
    packet = getattr(getattr(torch.ops, namespace), name[:-1], None)
    overload = getattr(packet, target._overloadname, None) if packet is not None else None
    if overload is None or len(overload._schema.arguments) != len(target._schema.arguments):
        return None
    return overload


def functional(step: Step) -> Step:
    """The same step without a write: what it overwrote may still be read afterwards."""
    if not step.writes:
        return step
    target = out_of_place(step.target)
    assert target is not None  # the capture refuses a write without such a form
    return replace(step, target=target, writes=frozenset())


def run(step: Step, read: Callable[[Any], Any], dtype: torch.dtype | None = None) -> Any:
    """``target(*args, **kwargs)`` with `read` giving Ref, Constant and Size leaves, never in place.

    With a `dtype`, floating types among the arguments (casts, new tensors) become it: a computation in float64
    stays one.
    """

    def leaf(value: Any) -> Any:
        if isinstance(value, (Ref, Constant, Size)):
            return read(value)
        if dtype is not None and isinstance(value, torch.dtype) and value in _HALF_TO_DOUBLE:
            return dtype
        return value

    step = functional(step)
    args, kwargs = tree_map(leaf, (step.args, step.kwargs))
    result = step.target(*args, **kwargs)
    if dtype is not None and step.target is not operator.getitem and not _floating(args, kwargs):
        # A new tensor (zeros, a range) of the default type, or an integer made floating by a division.
        result = tree_map(lambda r: r.to(dtype) if isinstance(r, Tensor) and r.is_floating_point() else r, result)
    return result


def _floating(*trees: Any) -> bool:
    return any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in tree_leaves(trees))


def _size(value: Size, bound: Mapping[Any, int]) -> int | float | bool:
    missing = value.expression.free_symbols - bound.keys()
    if missing:
        raise InvalidArgument("a size is not known from the inputs", got=str(value.expression))
    result = sympy.sympify(value.expression.xreplace({symbol: sympy.Integer(n) for symbol, n in bound.items()}))
    if result.is_Boolean:
        return bool(result)
    return int(result) if result.is_integer else float(result)


def bind(captured: Captured, tensors: list[Tensor]) -> dict[Any, int]:
    """The value of each symbol of the program for these inputs.

    Raises InvalidArgument where the inputs have sizes that the capture does not hold for.
    """
    bound = {symbol: int(tensors[index].shape[axis]) for symbol, (index, axis) in captured.symbols.items()}
    for number, tensor in zip(captured.program.inputs, tensors, strict=True):
        sizes = captured.sizes[number]
        expected = tuple(s if isinstance(s, int) else int(s.xreplace(bound)) for s in sizes)
        if tuple(tensor.shape) != expected:
            raise InvalidArgument(
                "the captured program does not hold for inputs of this size",
                got=tuple(tensor.shape),
                expected=sizes,
                hint=" ".join(captured.limits),
            )
    return bound


def interpret(
    captured: Captured,
    wanted: list[int],
    known: Mapping[int, Any],
    dtype: torch.dtype | None = None,
    bound: Mapping[Any, int] | None = None,
) -> dict[int, Any]:
    """The `wanted` values computed from the `known` ones by the program's own steps, constants in `dtype`.

    `bound` gives the symbols of the sizes (see `bind`); without it the example inputs' sizes hold. Returns all
    values that were needed, by number, `known` among them.
    """
    bound = captured.example if bound is None else bound
    values: dict[int, Any] = dict(known)

    def read(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            return values[leaf.value]
        return captured.tensor(leaf.key, dtype) if isinstance(leaf, Constant) else _size(leaf, bound)

    needed, stack = set(known), list(wanted)
    order: list[int] = []
    while stack:
        number = stack.pop()
        if number in needed:
            continue
        needed.add(number)
        if number not in captured.steps:
            raise InvalidArgument("an input of the program is not among the known values", got=f"value {number}")
        order.append(number)
        step = captured.steps[number]
        stack += [leaf.value for leaf in tree_leaves((step.args, step.kwargs)) if isinstance(leaf, Ref)]
    with torch.no_grad():
        for number in sorted(order):
            values[number] = run(captured.steps[number], read, dtype)
    return values


def evaluate(captured: Captured, given: ExampleInputs, dtype: torch.dtype | None = torch.float64) -> dict[int, Any]:
    """Every value of the program for the inputs `given`, in `dtype`."""

    def cast(value: Tensor) -> Tensor:
        return value.to(dtype) if dtype is not None and value.is_floating_point() else value

    tensors = [cast(leaf) for leaf in tree_leaves((given.args, dict(given.kwargs))) if isinstance(leaf, Tensor)]
    known = dict(zip(captured.program.inputs, tensors, strict=True))
    return interpret(captured, sorted(captured.steps), known, dtype, bind(captured, tensors))
