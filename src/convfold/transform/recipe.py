"""Recipes: which block for which layer, by rule, written in Python or in a small TOML file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import nn

from convfold.errors import FileProblem, InvalidArgument
from convfold.transform.kinds import find, kinds

__all__ = ["KINDS", "Recipe", "Rule", "kind_of"]

KINDS = ("dense", "grouped", "depthwise", "pointwise", "linear")


def kind_of(layer: nn.Module) -> str:
    """ "linear", "pointwise" (one tap), "depthwise" (one input channel a group), "grouped" or "dense"."""
    if isinstance(layer, nn.Linear):
        return "linear"
    sizes, groups = getattr(layer, "kernel_size", ()), getattr(layer, "groups", 1)
    if all(k == 1 for k in sizes):
        return "pointwise"
    if groups == 1:
        return "dense"
    return "depthwise" if groups == getattr(layer, "in_channels", 0) else "grouped"


@dataclass(frozen=True, eq=False)
class Rule:
    """`block` with its `options` for layers of this `kind`, `kernel` size and `name`; what is None matches all.

    A rule without a block uses the one that is given to `expand` beside the recipe.

    kind is one of "dense", "grouped", "depthwise", "pointwise", "linear"; kernel a number or one per axis; name a
    glob over module names.
    """

    block: str | None = None
    kind: str | None = None
    kernel: int | tuple[int, ...] | None = None
    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.block is not None and self.block not in kinds():
            find(self.block, 2)  # raises, offering the nearest names
        if self.kind is not None and self.kind not in KINDS:
            raise InvalidArgument("kind is unknown", where=str(self), got=repr(self.kind), expected=KINDS)

    def matches(self, path: str, layer: nn.Module) -> bool:
        """Whether the layer at `path` is one that the rule speaks of."""
        sizes = tuple(getattr(layer, "kernel_size", ()))
        wanted = (self.kernel,) * len(sizes) if isinstance(self.kernel, int) else self.kernel
        return (
            (self.kind is None or self.kind == kind_of(layer))
            and (wanted is None or (bool(sizes) and tuple(wanted) == sizes))
            and (self.name is None or fnmatchcase(path, self.name))
        )

    def __str__(self) -> str:
        said = {"kind": self.kind, "kernel": self.kernel, "name": self.name}
        return f"{self.block or 'the block'} for " + (
            ", ".join(f"{k}={v}" for k, v in said.items() if v is not None) or "every layer"
        )


@dataclass(frozen=True)
class Recipe:
    """Rules in order; the first that matches a layer chooses its block, and a layer that none matches stays."""

    rules: tuple[Rule, ...]

    def __init__(self, rules: Sequence[Rule]) -> None:
        object.__setattr__(self, "rules", tuple(rules))
        if not self.rules:
            raise InvalidArgument("a recipe has no rule", expected="at least one")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a TOML file of ``[[rule]]`` tables with the keys block, kind, kernel, name and options.

        Raises FileProblem when it cannot be read, InvalidArgument for an unknown key, block or kind.
        """
        try:
            fields = tomllib.loads(Path(path).read_text())
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FileProblem(f"this is no recipe ({error})", where=str(path), expected="a TOML file") from error
        unknown = set(fields) - {"rule"}
        tables = fields.get("rule", [])
        if unknown or not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise InvalidArgument("a recipe holds [[rule]] tables", where=str(path), got=", ".join(fields))
        rules = []
        for number, table in enumerate(tables, start=1):
            wrong = set(table) - {"block", "kind", "kernel", "name", "options"}
            if wrong:
                raise InvalidArgument(
                    f"rule {number} has other keys",
                    where=str(path),
                    got=", ".join(sorted(table)),
                    expected="any of block, kind, kernel, name, options",
                )
            kernel = table.get("kernel")
            rules.append(Rule(**{**table, "kernel": tuple(kernel) if isinstance(kernel, list) else kernel}))
        return cls(rules)

    def blocks(self, default: str | None) -> list[str]:
        """The block of each rule; raises InvalidArgument where neither the rule nor `default` names one."""
        found = [rule.block or default for rule in self.rules]
        for number, (rule, name) in enumerate(zip(self.rules, found, strict=True), start=1):
            if name is None:
                raise InvalidArgument(
                    f"rule {number} names no block", where=str(rule), hint="Name one in the rule, or beside the recipe."
                )
        return [name for name in found if name is not None]

    def assign(self, layers: dict[str, nn.Module]) -> dict[str, Rule]:
        """The rule of each layer that one matches, by path.

        Raises InvalidArgument for a rule that matches no layer at all: it is likely misspelled. A rule whose layers
        were all taken by earlier ones is no error.
        """
        for number, rule in enumerate(self.rules, start=1):
            if not any(rule.matches(path, layer) for path, layer in layers.items()):
                raise InvalidArgument(
                    f"rule {number} matches no layer",
                    where=str(rule),
                    expected=f"one like {', '.join(list(layers)[:3])}",
                    hint="Correct the rule, or take it out.",
                )
        found = {path: next((r for r in self.rules if r.matches(path, m)), None) for path, m in layers.items()}
        return {path: rule for path, rule in found.items() if rule is not None}
