"""Convolutions along one axis at a time: what flattened and spatially separable layers are made of."""

from __future__ import annotations

from typing import Any

from torch import nn

from convfold.algebra import Op, Pads
from convfold.layers.base import LinearLayer

__all__ = ["Axiswise"]


class Axiswise(LinearLayer):
    """A kernel of one axis after another, each with the stride, the dilation and the padding of its own axis.

    An axis of one tap without stride and padding needs no convolution. Zeros that pad one axis stay zeros under
    a kernel along another that has no bias. Convolutions that `conv` names may have one (batch normalisation):
    then all zero padding stands before the first.
    """

    axes: nn.ModuleList

    def _own_axes(self) -> list[int]:
        nothing = [(a.kernel, a.stride, a.lo, a.hi) == (1, 1, 0, 0) for a in self.window]
        return [axis for axis in range(self.dims) if not nothing[axis]]

    def _along(self, axis: int, inputs: int, outputs: int, **options: Any) -> nn.Module:
        """A convolution of this axis alone."""

        def only(values: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(v if index == axis else 1 for index, v in enumerate(values))

        return self._inner(
            inputs,
            outputs,
            only(self.kernel_size),
            stride=only(self.stride),
            dilation=only(self.dilation),
            **options,
        )

    def _axis_pads(self, axis: int) -> Pads:
        if self._pads_first:
            return self.pads if axis == self._own_axes()[0] else self._no_pads
        return tuple(pair if index == axis else (0, 0) for index, pair in enumerate(self.pads))

    def _keep_order(self) -> None:
        """Decide where padding stands, while it is known what `conv` is."""
        self._pads_first = self._conv is not None and self.padding_mode == "zeros"

    def _chained(self) -> list[Op]:
        """The convolutions along the axes, in order."""
        pairs = zip(self._own_axes(), self.axes, strict=True)
        return [self._placed(module, self._axis_pads(axis)) for axis, module in pairs]
