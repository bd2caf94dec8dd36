"""Kernels with one size on every axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from torch.nn import functional as F

from convfold.algebra import Conv, ConvTranspose
from convfold.geometry import Axis, has_padding
from convfold.transform.lower.emit import Steps, bare, conv_steps, transposed_steps
from convfold.transform.lower.rules.base import Rule
from convfold.transform.lower.seen import Seen

__all__ = ["Square"]


@dataclass(frozen=True)
class Square(Rule):
    """A kernel of different sizes as one of the largest of them, zero around: ``K'[j + e] = K[j]``.

    e taps come before and as many, or one more, after; the padding grows by d*e on each side, and is a step of its own
    where the sides differ. Padding of other modes than zeros comes first, in its own mode. The zeros are multiplied.
    """

    name: ClassVar[str] = "square"

    def breaks(self, seen: Seen) -> bool:
        return len(set(seen.kernel)) > 1

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        size = max(axis.kernel for axis in layer.window)
        more = [((size - a.kernel) // 2, size - a.kernel - (size - a.kernel) // 2) for a in layer.window]
        weight = F.pad(layer.weight, [n for pair in reversed(more) for n in pair])
        window = tuple(
            Axis(size, a.stride, a.dilation, a.lo + a.dilation * before, a.hi + a.dilation * after)
            for a, (before, after) in zip(layer.window, more, strict=True)
        )
        if isinstance(layer, ConvTranspose):
            return transposed_steps(replace(layer, weight=weight, window=window))
        if layer.padding_mode == "zeros" or not has_padding(layer.window):
            return conv_steps(Conv(weight, layer.bias, window, layer.groups))
        steps, _ = bare(layer)
        grown = tuple(
            replace(wide, lo=wide.lo - axis.lo, hi=wide.hi - axis.hi)
            for wide, axis in zip(window, layer.window, strict=True)
        )
        return [*steps, *conv_steps(Conv(weight, layer.bias, grown, layer.groups))]

    def why_dearer(self, seen: Seen) -> str:
        return "the zeros around the kernel are multiplied"
