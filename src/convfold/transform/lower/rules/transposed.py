"""Transposed convolutions as convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, ClassVar

from torch import Tensor

from convfold.algebra import Conv, ConvTranspose
from convfold.errors import InvalidArgument
from convfold.geometry import Axis
from convfold.transform.lower.emit import Steps, conv_steps
from convfold.transform.lower.rules.base import Rule
from convfold.transform.lower.seen import Seen
from convfold.transform.lower.steps import Pad, Shuffle, Stuff

__all__ = ["Transposed", "sub_pixel"]

_WAYS = ("shuffle", "zeros")


@dataclass(frozen=True)
class Transposed(Rule):
    """A transposed convolution as a convolution and a pixel shuffle, or behind zeros between its positions.

    "shuffle" (sub-pixel): with ``q = s*m + r`` a position of the uncropped output,
    ``y[q] = sum_{j : d*j = r mod s} K[j] x[m - (d*j - r)/s]``: each phase r is a convolution of x with the taps that
    fall on it, flipped, and a channel of its own; the shuffle by s puts them side by side, a crop takes off `lo` and
    `hi`.
    Any stride, kernel, padding, output padding, dilation and groups. Where s does not divide the kernel some taps
    are zero and are multiplied; so is what the crop takes off.
    "zeros": ``x'[s*i] = x[i]``, zero between, and a convolution of stride 1 with the flipped kernel: prod(s) times the
    multiply-accumulates.
    """

    name: ClassVar[str] = "transposed"
    by: str = "shuffle"

    def __post_init__(self) -> None:
        if self.by not in _WAYS:
            raise InvalidArgument(
                f"the rule {self.name} knows no such way", where="by", got=repr(self.by), expected=f"one of {_WAYS}"
            )

    def breaks(self, seen: Seen) -> bool:
        return seen.kind == "transposed"

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        assert isinstance(layer, ConvTranspose)  # nothing else breaks the rule
        return sub_pixel(layer) if self.by == "shuffle" else _stuffed(layer)

    def why_dearer(self, seen: Seen) -> str:
        if self.by == "zeros":
            return "the zeros between the positions are multiplied"
        return "zero taps and cropped positions are multiplied"


def _blocks(layer: ConvTranspose) -> Tensor:
    """(C_in, C_out/g, *k) -> (C_out, C_in/g, *k)"""
    weight = layer.weight.reshape(layer.groups, -1, *layer.weight.shape[1:])
    return weight.transpose(1, 2).reshape(layer.out_channels, -1, *layer.weight.shape[2:])


def _stuffed(layer: ConvTranspose) -> Steps:
    strides = tuple(axis.stride for axis in layer.window)
    window = tuple(Axis(a.kernel, 1, a.dilation, a.span - 1 - a.lo, a.span - 1 - a.hi) for a in layer.window)
    weight = _blocks(layer).flip(tuple(range(2, 2 + layer.dims)))
    steps: Steps = [Stuff(strides)] if max(strides) > 1 else []
    return [*steps, *conv_steps(Conv(weight, layer.bias, window, layer.groups))]


def _phase(axis: Axis) -> tuple[Axis, int]:
    """The window of all phases along one axis, and the positions before the first one that is kept.

    Taps lie at ``t = (d*j - r) / s`` from 0 to T. Where s divides d only phase 0 has taps, d/s apart.
    """
    step = axis.dilation // axis.stride if axis.dilation % axis.stride == 0 and axis.kernel > 1 else 1
    last = (axis.span - 1) // axis.stride
    first = axis.lo // axis.stride
    behind = (axis.span - 1 - axis.hi) // axis.stride
    return Axis(last // step + 1, 1, step, last - first, behind), first


def sub_pixel(layer: ConvTranspose) -> Steps:
    """The convolution, the shuffle and the crop of `layer`."""
    rows = [_phase(axis) for axis in layer.window]
    window, strides = tuple(axis for axis, _ in rows), tuple(axis.stride for axis in layer.window)
    blocks, phases = _blocks(layer), prod(strides)
    weight = blocks.new_zeros(*blocks.shape[:2], *strides, *(axis.kernel for axis in window))
    kernels: tuple[Any, ...] = (slice(None), slice(None))
    for taps in product(*(range(axis.kernel) for axis in layer.window)):
        at = [divmod(a.dilation * j, a.stride) for a, j in zip(layer.window, taps, strict=True)]
        flipped = [axis.kernel - 1 - t // axis.dilation for axis, (t, _) in zip(window, at, strict=True)]
        phase = [r for _, r in at]
        weight[(*kernels, *phase, *flipped)] = blocks[(*kernels, *taps)]
    # Output channels in the order of a pixel shuffle: the phases of one channel beside each other.
    weight = weight.movedim(1, 1 + layer.dims).reshape(layer.out_channels * phases, -1, *(a.kernel for a in window))
    bias = None if layer.bias is None else layer.bias.repeat_interleave(phases)
    steps = conv_steps(Conv(weight, bias, window, layer.groups))
    crop = tuple(
        (a.stride * first - a.lo, (a.span - 1 - a.hi) % a.stride - a.stride + 1)
        for a, (_, first) in zip(layer.window, rows, strict=True)
    )
    steps += [Shuffle(strides)] if phases > 1 else []
    return [*steps, Pad(crop)] if any(map(any, crop)) else steps
