"""The value that nodes are being written for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from convfold.graph.maps import Given, Recipe
from convfold.graph.program import Shift, ShiftGiven
from convfold.plan.onnx.tensors import Make, shift_vector
from convfold.plan.onnx.writer import Writer

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """A value by number, the name that its tensor has or shall have, its shape and its type."""

    writer: Writer
    number: int
    name: str
    shape: tuple[int, ...]
    dtype: ir.DataType

    @property
    def rank(self) -> int:
        return len(self.shape)

    def source(self, number: int) -> ir.Value:
        return self.writer.of[number]

    def node(self, op: str, inputs: Sequence[ir.Value | None], attributes: dict[str, Any] | None = None) -> ir.Value:
        return self.writer.node(op, inputs, attributes, base=self.name)

    def integers(self, role: str, numbers: Sequence[int] | int) -> ir.Value:
        return self.writer.integers(numbers, f"{self.name}_{role}")

    def weight(
        self,
        role: str,
        make: Make,
        shape: tuple[int, ...],
        key: tuple[object, ...] | None = None,
        recipe: Recipe | None = None,
        broadcast: bool = False,
    ) -> ir.Value:
        """A weight of this value; what a `recipe` gives by name is not written again where it has the shape."""
        if isinstance(recipe, Given):
            held = self.writer.stored(recipe.key, shape, self.dtype, self.rank if broadcast else 0)
            if held is not None:
                return held
        return self.writer.weight(make, shape, self.dtype, f"{self.name}_{role}", key)

    def bias(self, shift: Shift, channels: int) -> ir.Value:
        """A bias as a node takes it in: one number for each channel."""
        shape = (channels,)
        return self.weight("bias", shift_vector(shift, channels, shape), shape, (shift, "bias"), _recipe(shift))

    def shift(self, shift: Shift | None, axis: int | None) -> ir.Value:
        """A bias to be added: it lies on its axis; one that differs between positions, on all behind that."""
        assert shift is not None
        if axis is None and not shift.mapped:
            return self.weight("shift", shift_vector(shift, 1, ()), (), (shift, "shift"), _recipe(shift), True)
        assert axis is not None
        channels, *behind = self.shape[axis:]
        shape = (channels, *(behind if shift.mapped else (1,) * len(behind)))
        key = (shift, "shift", axis)
        return self.weight("shift", shift_vector(shift, channels, shape), shape, key, _recipe(shift), True)


def _recipe(shift: Shift) -> Given | None:
    """The constant that a bias is."""
    return Given(shift.key) if isinstance(shift, ShiftGiven) else None
