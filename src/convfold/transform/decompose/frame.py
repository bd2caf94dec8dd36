"""The frame of a decomposition: which convolutions stand in a row, between how many channels, and what that costs.

Plain integers; a frame is chosen before any number of a kernel is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from convfold.geometry import Axis, Window, out_size

__all__ = ["Call", "Frame", "Part", "Rank", "Shape", "macs", "thinned"]

Rank = int | tuple[int, int]
_EVERY = 16  # ranks up to which each one is offered where there would be too many pairs
_STEP = 1.15


@dataclass(frozen=True)
class Shape:
    """A kernel of `groups` blocks (rows x columns x *kernel): output and input channels of one group, taps per axis."""

    groups: int
    rows: int
    columns: int
    kernel: tuple[int, ...]

    @property
    def taps(self) -> int:
        return prod(self.kernel)

    @property
    def long_axes(self) -> tuple[int, ...]:
        """The axes with more than one tap."""
        return tuple(axis for axis, size in enumerate(self.kernel) if size > 1)

    @property
    def inputs(self) -> int:
        return self.groups * self.columns

    @property
    def outputs(self) -> int:
        return self.groups * self.rows


@dataclass(frozen=True)
class Part:
    """One convolution of a row: it has the kernel's window along `axes`, and one tap along the others."""

    inputs: int
    outputs: int
    groups: int
    axes: tuple[int, ...]

    def shape(self, kernel: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of its weight."""
        taps = (size if axis in self.axes else 1 for axis, size in enumerate(kernel))
        return (self.outputs, self.inputs // self.groups, *taps)


@dataclass(frozen=True)
class Frame:
    """A way to decompose a kernel: the rank, the parts in order, and `form`, the parts in words."""

    rank: Rank
    parts: tuple[Part, ...]
    form: str


@dataclass(frozen=True)
class Call:
    """One run of a layer: so many samples (for a Linear layer, rows) of this spatial size."""

    samples: int
    size: tuple[int, ...]


def macs(parts: Sequence[Part], window: Window, calls: Sequence[Call]) -> int:
    """Multiply-accumulates of `parts` in a row: ``sum_p prod(out_p) * prod(k_p) * C_in,p * C_out,p / g_p``.

    `calls` are the layer's runs. Without any it is counted for one position of the output, on a map that is large
    against its border: a part before a stride then runs at as many positions as the stride skips.

    >>> separable = (Part(3, 3, 3, (0, 1)), Part(3, 16, 1, ()))
    >>> macs(separable, (Axis(3, 2, 1, 1, 1),) * 2, [Call(1, (11, 11))])
    2700
    """
    total = 0
    for call in calls or (None,):
        size = call.size if call else tuple(axis.stride for axis in window)
        for part in parts:
            own = tuple(axis if index in part.axes else Axis(1) for index, axis in enumerate(window))
            if call:
                size = out_size(own, size)
            else:
                size = tuple(1 if index in part.axes else n for index, n in enumerate(size))
            weights = part.outputs * (part.inputs // part.groups) * prod(axis.kernel for axis in own)
            total += (call.samples if call else 1) * prod(size) * weights
    return total


def thinned(full: int) -> list[int]:
    """Ranks from 1 to `full`, further apart as they grow, both ends among them.

    >>> thinned(4), len(thinned(512)) < 45
    ([1, 2, 3, 4], True)
    """
    ranks, next_one = [], 1.0
    while next_one < full:
        ranks.append(int(next_one))
        next_one = max(next_one + 1, next_one * _STEP) if next_one >= _EVERY else next_one + 1
    return [*ranks, full]
