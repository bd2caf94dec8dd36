"""Dilated convolutions without dilation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor

from convfold.algebra import Conv, ConvTranspose
from convfold.errors import InvalidArgument
from convfold.geometry import Axis
from convfold.transform.lower.emit import Steps, bare, conv_steps, joined, transposed_steps
from convfold.transform.lower.rules.base import Rule
from convfold.transform.lower.seen import Seen
from convfold.transform.lower.steps import Phases

__all__ = ["Dilation"]

_WAYS = ("batch", "zeros")


@dataclass(frozen=True)
class Dilation(Rule):
    """Dilation d by space to batch, or by zeros in the kernel.

    "batch": every d-th position is a map of its own, on which the same kernel runs without dilation; see `Phases` for
    stride and sizes that d does not divide. As many multiply-accumulates as before on sizes that d divides.
    "zeros": ``K'[d*j] = K[j]``, zero between: a kernel of ``d*(k - 1) + 1`` taps, all of which are multiplied.
    A transposed convolution takes zeros either way. An axis with one tap has no dilation.
    """

    name: ClassVar[str] = "dilation"
    by: str = "batch"

    def __post_init__(self) -> None:
        if self.by not in _WAYS:
            raise InvalidArgument(
                f"the rule {self.name} knows no such way", where="by", got=repr(self.by), expected=f"one of {_WAYS}"
            )

    def breaks(self, seen: Seen) -> bool:
        return any(axis.dilation > 1 and axis.kernel > 1 for axis in seen.window)

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        layer = replace(layer, window=tuple(replace(a, dilation=1) if a.kernel == 1 else a for a in layer.window))
        if isinstance(layer, ConvTranspose):
            weight, window = _spread(layer.weight, layer.window)
            return transposed_steps(replace(layer, weight=weight, window=window))
        if self.by == "zeros":
            weight, window = _spread(layer.weight, layer.window)
            return conv_steps(replace(layer, weight=weight, window=window))
        before, conv = bare(layer)
        inner = replace(conv, window=tuple(map(Phases.inner, conv.window)))
        return [*before, Phases(conv.window, joined(conv_steps(inner)))]

    def why_dearer(self, seen: Seen) -> str:
        if self.by == "zeros" or seen.kind == "transposed":
            return "the zeros between the taps are multiplied"
        return "maps are filled up to a multiple of the dilation"


def _spread(weight: Tensor, window: tuple[Axis, ...]) -> tuple[Tensor, tuple[Axis, ...]]:
    """The kernel with its zeros written out."""
    wide = weight.new_zeros(*weight.shape[:2], *(axis.span for axis in window))
    taps = tuple(slice(None, None, axis.dilation) for axis in window)
    wide[(slice(None), slice(None), *taps)] = weight
    return wide, tuple(Axis(axis.span, axis.stride, 1, axis.lo, axis.hi) for axis in window)
