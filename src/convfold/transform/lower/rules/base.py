"""What every rule has: a name, what it holds against an operator, and how it is written otherwise."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, ClassVar

from convfold.algebra import Conv, ConvTranspose
from convfold.errors import InvalidArgument
from convfold.transform.lower.emit import Steps
from convfold.transform.lower.seen import Seen

__all__ = ["Rule", "whole_number"]


class Rule:
    """A rewriting with parameters; a frozen dataclass whose docstring is its law."""

    name: ClassVar[str]

    def breaks(self, seen: Seen) -> bool:
        """Whether the hardware lacks this operator."""
        raise NotImplementedError

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        """Modules that compute the same one after the other. What they hold may be rewritten by rules again."""
        raise NotImplementedError

    def why_dearer(self, seen: Seen) -> str:
        """Why multiply-accumulates may rise; empty where they never do."""
        return ""

    def __str__(self) -> str:
        given = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in fields(self))  # type: ignore[arg-type]
        return f"{self.name}({given})"


def whole_number(rule: Rule, parameter: str, least: int) -> None:
    """Raise InvalidArgument unless the parameter is an integer of at least `least`."""
    value: Any = getattr(rule, parameter)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(
            f"the rule {rule.name} cannot have this {parameter}", got=repr(value), expected=f"a number from {least}"
        )
