"""The cost report: totals, one row per module that executed something, and what could not be counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from convfold.errors import UnknownName

__all__ = ["CostReport", "Row", "Totals"]

Shapes = tuple[tuple[int, ...], ...]


class Totals(NamedTuple):
    """Sums over a module and everything below it."""

    macs: int
    convolutions: int
    operators: int
    params: int


@dataclass(frozen=True)
class Row:
    """What one module executed itself, its submodules left out, over all its calls.

    `params` are the parameters it holds itself, a shared one counted where it is met first; shapes are
    those of the first call.
    """

    path: str
    type: str
    macs: int
    convolutions: int
    operators: int
    params: int
    inputs: Shapes
    outputs: Shapes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        shapes = {"inputs": [list(s) for s in self.inputs], "outputs": [list(s) for s in self.outputs]}
        return {**self.__dict__, **shapes}


@dataclass(frozen=True)
class CostReport:
    """What one forward pass in eval mode executes.

    `macs`: multiply-accumulates of convolutions and matrix products, zero padding counted.
    `convolutions`: convolutions, and products with a matrix that does not depend on the inputs.
    `operators`: executed operators that are neither views nor copies.
    `params`: elements of the parameters; `weight_bytes`: bytes of parameters and buffers, each once.
    `rows`: one per module that executed something itself, in order of execution.
    `uncounted`: operators that may hold products and have no formula, by name, with their number.
    `real_run`: empty when counted on meta tensors, else why the model had to be run.
    """

    model: str
    macs: int
    convolutions: int
    operators: int
    params: int
    weight_bytes: int
    rows: tuple[Row, ...]
    uncounted: Mapping[str, int]
    real_run: str
    held: Mapping[str, int]
    names: Mapping[str, str]

    def under(self, path: str) -> Totals:
        """Totals of the module at `path` and everything below it; ``""`` is the whole model.

        A module with several names is counted under its first one. Raises UnknownName when the model
        has no such module.
        """
        if path not in self.names:
            near = get_close_matches(path, self.names, 3)
            hint = f"Did you mean {', '.join(near)}?" if near else ""
            raise UnknownName(f"{self.model} has no module of this name", got=f"'{path}'", hint=hint)
        top = self.names[path]

        def inside(name: str) -> bool:
            return not top or name == top or name.startswith(f"{top}.")

        rows = [row for row in self.rows if inside(row.path)]
        return Totals(
            sum(row.macs for row in rows),
            sum(row.convolutions for row in rows),
            sum(row.operators for row in rows),
            sum(count for name, count in self.held.items() if inside(name)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "model": self.model,
            "macs": self.macs,
            "convolutions": self.convolutions,
            "operators": self.operators,
            "params": self.params,
            "weight_bytes": self.weight_bytes,
            "rows": [row.to_dict() for row in self.rows],
            "uncounted": dict(self.uncounted),
            "real_run": self.real_run,
        }

    def __str__(self) -> str:
        head = ("module", "type", "output", "MACs", "conv", "oper", "params")
        body = [
            (
                row.path or "(model)",
                row.type,
                " ".join("x".join(map(str, shape)) for shape in row.outputs),
                *_numbers(row.macs, row.convolutions, row.operators, row.params),
            )
            for row in self.rows
        ]
        total = (
            "total",
            self.model,
            "",
            *_numbers(self.macs, self.convolutions, self.operators, self.params),
        )
        table = [head, *body, total]
        widths = [max(len(line[column]) for line in table) for column in range(len(head))]
        lines = [_line(line, widths) for line in table]
        rule = "-" * len(lines[0])
        lines = [lines[0], rule, *lines[1:-1], rule, lines[-1], f"weights: {self.weight_bytes:,} bytes"]
        if self.uncounted:
            listed = ", ".join(f"{name} x{count}" for name, count in self.uncounted.items())
            lines.append(f"not counted (no formula): {listed}")
        if self.real_run:
            lines.append(f"counted in a real run: {self.real_run}")
        return "\n".join(lines)


def _numbers(*values: int) -> tuple[str, ...]:
    return tuple(f"{value:,}" for value in values)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    text = [cell.ljust(width) for cell, width in zip(cells[:3], widths[:3], strict=True)]
    figures = [cell.rjust(width) for cell, width in zip(cells[3:], widths[3:], strict=True)]
    return "  ".join([*text, *figures])
