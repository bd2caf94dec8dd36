"""One node of a file as the words see it, and the words: what each ONNX operator is in the terms of the rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from convfold.graph.captured import Constant, Ref
from convfold.graph.layout import Layout
from convfold.graph.maps import IDENTITY
from convfold.graph.onnx.constants import FileConstants
from convfold.graph.onnx.shapes import Shapes
from convfold.graph.operation import RULES, Meta, Operation
from convfold.graph.program import Linear, Node, Term
from convfold.graph.rules.views import Views

__all__ = ["WORDS", "Reading", "word"]


@dataclass(frozen=True)
class Reading:
    """A node whose first result becomes value `number`; `inputs` are Ref, Constant, None where one is left out,
    or an `ir.Value` for one that is neither (a size that follows the inputs, a tensor of unknown shape).
    """

    node: ir.Node
    number: int
    version: int
    inputs: tuple[Any, ...]
    out: Meta
    meta: Callable[[Ref | Constant], Meta]
    shapes: Shapes
    constants: FileConstants
    views: Views

    def attr(self, name: str, default: Any = None) -> Any:
        """The value of an attribute: a number, a text, a list of numbers."""
        found = self.node.attributes.get(name)
        if found is None:
            return default
        value = found.value
        return list(value) if isinstance(value, (tuple, list)) else value

    def input(self, index: int) -> Any:
        """The input of that number, None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def source(self) -> Ref | None:
        """The first input, where it is a value of the result's type."""
        first = self.input(0)
        return first if isinstance(first, Ref) and self.meta(first).dtype == self.out.dtype else None

    def dims(self, argument: Ref | Constant) -> tuple[Any, ...]:
        return self.meta(argument).dims

    def numbers(self, index: int) -> list[Any] | None:
        """The elements of an input that is constant, flat; None for another."""
        given = self.input(index)
        if not isinstance(given, Constant):
            return None
        found: list[Any] = self.constants.array(str(given.key)).reshape(-1).tolist()
        return found

    def follows(self, index: int) -> bool:
        """Whether an input is neither left out nor constant."""
        given = self.input(index)
        return given is not None and not isinstance(given, Constant)

    def operation(self, name: str, named: dict[str, Any]) -> Operation:
        """The node as an operator of the rules."""
        return Operation(
            name, named, self.out, self.number, self.shapes.sizes, self.meta, self.views.base, self._integers
        )

    def rule(self, name: str, /, **named: Any) -> Node | None:
        """What the rule of that name makes of the arguments, named as torch names them; the source first."""
        return RULES[name](self.operation(name, named))

    def same(self) -> Node | None:
        """The source as it is."""
        source = self.source
        return None if source is None else Linear((Term(IDENTITY, source.value),))

    def base(self, source: Ref) -> tuple[int, Layout]:
        return self.views.base(source)

    def _integers(self, constant: Constant) -> tuple[int, ...] | None:
        array = self.constants.array(str(constant.key))
        return tuple(int(i) for i in array) if array.ndim == 1 and array.dtype.kind == "i" else None


Word = Callable[[Reading], Node | None]
WORDS: dict[str, Word] = {}


def word(*names: str) -> Callable[[Word], Word]:
    """Register the meaning of operators; it returns None for what is not known as linear."""

    def register(function: Word) -> Word:
        for name in names:
            WORDS[name] = function
        return function

    return register
