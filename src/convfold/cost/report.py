"""The cost report: totals, one row per module that executed something, and what could not be counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

from convfold.cost.rank import kernel_rank
from convfold.cost.tables.text import aligned
from convfold.cost.training import TrainingCost
from convfold.errors import InvalidArgument, UnknownName

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

    `params`, `weight_bytes`: parameters, and bytes of parameters and buffers, that it holds itself, a shared
    one counted where it is met first. Shapes are those of the first call. `flops` are two for each
    multiply-accumulate and everything else; `activation_bytes` are those of what it makes, `traffic_bytes`
    those that its operators read and write. `receptive_field`: positions of the input that its last
    result depends on, along each spatial axis. `degrees_of_freedom`: dimension of the set of maps that its
    weights can give, the number of its parameters where it is not linear. `seconds`: those predicted for this
    machine, where that was asked (`convfold.cost.roofline.timed`).
    """

    path: str
    type: str
    macs: int
    convolutions: int
    operators: int
    params: int
    inputs: Shapes
    outputs: Shapes
    flops: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0
    traffic_bytes: int = 0
    receptive_field: tuple[int, ...] = ()
    degrees_of_freedom: int = 0
    seconds: float | None = None
    kernel: tuple[Tensor, int] | None = field(default=None, repr=False, compare=False)

    @cached_property
    def kernel_rank(self) -> int | None:
        """Rank of its kernel (rows: outputs; columns: inputs and taps), summed over groups.

        Worked out when it is first asked for, which takes longer than all the rest (singular values), from
        the weight as it is then. None without a kernel, and on meta tensors.
        """
        if self.kernel is None:
            return None
        ranks = kernel_rank(*self.kernel)
        return None if ranks is None else ranks.rows

    @property
    def intensity(self) -> float:
        """FLOPs for each byte of traffic; 0 where there is none."""
        return self.flops / self.traffic_bytes if self.traffic_bytes else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "kernel"}
        shapes = {"inputs": [list(s) for s in self.inputs], "outputs": [list(s) for s in self.outputs]}
        rest = {"intensity": self.intensity, "kernel_rank": self.kernel_rank}
        return {**plain, **shapes, "receptive_field": list(self.receptive_field), **rest}


@dataclass(frozen=True)
class CostReport:
    """What one forward pass in eval mode executes; `training` is what a step of training costs, where that was asked.

    `macs`: multiply-accumulates of convolutions and matrix products, zero padding counted, attention as if
    not causal; `flops`: two for each, and one for everything else as `convfold.cost.counting.flops` says.
    `convolutions`: convolutions, and products with a matrix that does not depend on the inputs.
    `operators`: executed operators that are neither views nor copies.
    `params`: elements of the parameters; `weight_bytes`: bytes of parameters and buffers, each once.
    `activation_bytes`: bytes of all that is made; `peak_bytes`: the most that is held of it at one time;
    `traffic_bytes`: bytes that operators read and write. `receptive_field`: positions of the input that
    an output depends on, along the axis where they are most; 0 for an input without spatial axes.
    `rows`: one per module that executed something itself, in order of execution.
    `uncounted`: operators without a formula, by name, with their number: the totals are too low by them.
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
    flops: int = 0
    activation_bytes: int = 0
    peak_bytes: int = 0
    traffic_bytes: int = 0
    receptive_field: int = 0
    training: TrainingCost | None = None

    @property
    def intensity(self) -> float:
        """FLOPs for each byte of traffic; 0 where there is none."""
        return self.flops / self.traffic_bytes if self.traffic_bytes else 0.0

    @property
    def degrees_of_freedom(self) -> int:
        """Those of all rows, summed."""
        return sum(row.degrees_of_freedom for row in self.rows)

    def require_counted(self) -> None:
        """Raise InvalidArgument, with their names, when there are operators that could not be counted."""
        missed = {**(self.training.uncounted if self.training else {}), **self.uncounted}
        if missed:
            raise InvalidArgument(
                "operators have no formula, so that the totals are too low",
                where=self.model,
                got=_listed(missed),
                expected="operators that can be counted",
                hint="Without strict counting the rest of the model is counted and these are listed.",
            )

    @property
    def seconds(self) -> float | None:
        """Those of the rows together, where they were predicted."""
        known = [row.seconds for row in self.rows if row.seconds is not None]
        return sum(known) if known else None

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
        left_out = ("held", "names")
        plain = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in left_out}
        rows = [row.to_dict() for row in self.rows]
        step = None if self.training is None else self.training.to_dict()
        left = {"intensity": self.intensity, "rows": rows, "uncounted": dict(self.uncounted), "training": step}
        return {**plain, **left}

    def __str__(self) -> str:
        head = ("module", "type", "output", "MACs", "FLOPs", "conv", "oper", "params", "activation B", "traffic B")
        body = [
            (
                row.path or "(model)",
                row.type,
                " ".join("x".join(map(str, shape)) for shape in row.outputs),
                *_figures(row),
            )
            for row in self.rows
        ]
        table = [head, *body, ("total", self.model, "", *_figures(self))]
        held = f"weights: {self.weight_bytes:,} bytes; most held at one time: {self.peak_bytes:,} bytes"
        reach = f"; receptive field: {self.receptive_field:,}" if self.receptive_field else ""
        step = [] if self.training is None else [_step(self.training)]
        return "\n".join([aligned(table, 3, 1), *self._loud(), held + reach, *step])

    def _loud(self) -> list[str]:
        lines = []
        if self.uncounted:
            lines.append(f"NOT COUNTED, the totals are too low (no formula): {_listed(self.uncounted)}")
        if self.real_run:
            lines.append(f"counted in a real run, meta tensors did not do: {self.real_run}")
        return lines


def _step(step: TrainingCost) -> str:
    return (
        f"step of training: {step.macs:,} MACs, {step.flops:,} FLOPs; "
        f"most held at one time: {step.peak_bytes:,} bytes; gradients: {step.gradient_bytes:,} bytes"
    )


def _listed(uncounted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} x{count}" for name, count in uncounted.items())


def _figures(counted: Row | CostReport) -> tuple[str, ...]:
    c = counted
    values = (c.macs, c.flops, c.convolutions, c.operators, c.params, c.activation_bytes, c.traffic_bytes)
    return tuple(f"{value:,}" for value in values)
