"""The names that a rewritten forward has for its values, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from sympy import Symbol
from torch.utils._sympy.printers import PythonPrinter

from convfold.graph.captured import Constant, Ref, Size
from convfold.plan.emission.spelling import identifier

__all__ = ["OutOfReach", "Scope", "UnknownSize", "paths"]


class OutOfReach(Exception):
    """What a forward cannot name: the call has to be written out in its caller."""


class UnknownSize(OutOfReach):
    """A size that cannot be told from the tensors in scope."""

    def __str__(self) -> str:
        return f"no tensor in it shows the size {self.args[0]}"


def paths(tree: Any, text: str) -> Iterator[tuple[Any, str]]:
    """The leaves of a tree of containers, each with the expression that picks it from `text`."""
    if isinstance(tree, (tuple, list)):
        for index, item in enumerate(tree):
            yield from paths(item, f"{text}[{index}]")
    elif isinstance(tree, dict):
        for key, item in tree.items():
            yield from paths(item, f"{text}[{key!r}]")
    elif is_dataclass(tree) and not isinstance(tree, (type, Ref, Constant, Size)):
        for part in fields(tree):
            yield from paths(getattr(tree, part.name), f"{text}.{part.name}")
    else:
        yield tree, text


class Scope:
    """Expressions for values, and which names are free to be taken again.

    `sizes` are the symbolic shapes of values: a size is read off a tensor that is at hand.
    """

    def __init__(self, sizes: dict[int, tuple[Any, ...]], taken: set[str]) -> None:
        self._sizes = sizes
        self._text: dict[int, str] = {}
        self._taken = set(taken)

    def bind(self, value: int, text: str) -> None:
        """`text` gives `value` from here on; the first name of a value stays."""
        self._text.setdefault(value, text)

    def has(self, value: int) -> bool:
        return value in self._text

    def var(self, value: int) -> str:
        return self._text[value]

    def forget(self, values: list[int]) -> list[str]:
        """Values that nothing reads any more; the names that are free now, in order."""
        gone = [self._text.pop(value) for value in values if value in self._text]
        held = set(self._text.values())
        roots = {text.split("[")[0].split(".")[0] for text in held}
        return [text for text in dict.fromkeys(gone) if text.isidentifier() and text not in roots]

    def fresh(self, hint: str) -> str:
        """A name that was not used yet."""
        name, count = identifier(hint), 1
        while name in self._taken:
            count += 1
            name = f"{identifier(hint)}_{count}"
        self._taken.add(name)
        return name

    def size(self, expression: Any) -> str:
        """A symbolic size as source; raises UnknownSize."""
        if not hasattr(expression, "free_symbols"):
            return repr(expression)
        found = self._read_off(expression)
        if found is not None:
            return found
        names: dict[str, str] = {}
        text = str(PythonPrinter().doprint(self._in_sizes(expression, names)))
        for name, read in names.items():
            text = text.replace(name, read)
        return text if text.isdigit() else f"({text})"

    def _in_sizes(self, expression: Any, names: dict[str, str]) -> Any:
        """The expression over sizes that can be read off, each a symbol of its own, noted in `names`."""
        read = self._read_off(expression)
        if read is not None:
            name = f"size_{len(names)}_of"
            names[name] = read
            return Symbol(name, integer=True, positive=True)
        if expression.is_Symbol:
            raise UnknownSize(str(expression))
        if not expression.args:
            return expression
        return expression.func(*(self._in_sizes(part, names) for part in expression.args))

    def _read_off(self, expression: Any) -> str | None:
        for value, text in self._text.items():
            for axis, size in enumerate(self._sizes.get(value, ())):
                if not isinstance(size, int) and size == expression:
                    return f"{text}.shape[{axis}]"
        return None

    def device(self) -> str:
        """Where the tensors at hand are."""
        text = next((self._text[v] for v in self._text if v in self._sizes), None)
        if text is None:
            raise UnknownSize("device")
        return f"{text}.device"
