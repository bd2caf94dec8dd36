"""One executed operator as the rules see it: name, arguments by the schema's names, shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from convfold.graph.captured import Constant, Ref, Size
from convfold.graph.layout import Layout
from convfold.graph.program import Node
from convfold.graph.sizes import Dims, Sizes, static

__all__ = ["RULES", "Meta", "Operation", "functional_name", "rule"]

_MISSING = object()


@dataclass(frozen=True)
class Meta:
    """Shape, symbolic, type and strides of a tensor; no strides stand for those of its shape."""

    dims: Dims
    dtype: torch.dtype
    strides: Dims | None = None


def functional_name(target: Any) -> str:
    """The name of an aten operator without its overload, and without the underscore of an in-place one."""
    name = str(target.__name__).split(".")[0]
    return name[:-1] if name.endswith("_") and not name.endswith("__") else name


@dataclass(frozen=True)
class Operation:
    """An operator whose result becomes value `number`; arguments are Ref, Constant, Size, lists or plain values.

    `base` gives, for a value that is a view, the value that it views, and the layout; `integers` the elements of
    a constant of integers, None for another.
    """

    name: str
    named: dict[str, Any]
    out: Meta
    number: int
    sizes: Sizes
    meta: Callable[[Ref | Constant], Meta]
    base: Callable[[Ref], tuple[int, Layout]]
    integers: Callable[[Constant], tuple[int, ...] | None]

    def __getitem__(self, name: str) -> Any:
        return self.named[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.named.get(name, default)

    def dims(self, argument: Ref | Constant) -> Dims:
        return self.meta(argument).dims

    @property
    def source(self) -> Ref | None:
        """The first argument, where it is a value of the result's type."""
        first = next(iter(self.named.values()), None)
        return self.value(first)

    def value(self, argument: Any) -> Ref | None:
        """The argument, where it is a value of the result's type."""
        if isinstance(argument, Ref) and self.meta(argument).dtype == self.out.dtype:
            return argument
        return None

    def same_shape(self, argument: Ref | Constant) -> bool:
        """Whether the argument has the shape of the result."""
        return self.sizes.equal(self.dims(argument), self.out.dims)

    def channels(self, argument: Ref | Constant, axis: int) -> int | None:
        """The size of an axis, where it is the same for all inputs."""
        return static(self.dims(argument)[axis])


def plain(*values: Any) -> bool:
    """Whether arguments are numbers, strings and lists of these: nothing that follows the inputs."""
    return all(
        plain(*value) if isinstance(value, (list, tuple)) else not isinstance(value, (Ref, Constant, Size))
        for value in values
    )


Rule = Callable[[Operation], Node | None]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators; it returns None for what it does not know as linear."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register
