"""A 1x1 convolution without a 1x1 convolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar

from torch import Tensor

from convfold.algebra import Conv, ConvTranspose
from convfold.geometry import Axis, has_padding
from convfold.transform.lower.emit import Steps, bare, conv_steps
from convfold.transform.lower.rules.base import Rule
from convfold.transform.lower.seen import Seen
from convfold.transform.lower.steps import AddBias, Pad, Shuffle, Stuff

__all__ = ["Pointwise", "factors"]


@dataclass(frozen=True)
class Pointwise(Rule):
    """A 1x1 convolution as a pixel shuffle and a convolution of kernel N and stride N.

    ``sum_c W[o, c] x[c, s*h] = sum_{c, p} W[o, c*N*N + p] y[c, N*s*h + p]`` with ``y = PixelShuffle_N(x)``: the taps of
    the new kernel are the channels of the old one, ``W'[o, c, p] = W[o, c*P + p]``, P = prod(N). Its stride is N*s and
    its zero padding N*p; other paddings come first, on their own. Groups stay, since a group's channels are neighbours.
    N is the least number whose power N**dims divides the channels of a group; where there is none, the last axis
    alone is shuffled, by the least divisor. As many multiply-accumulates as before.

    One channel a group has no divisor: the kernel is widened by a zero on both sides of the last axis, for three times
    the multiply-accumulates. A transposed convolution of one tap is a 1x1 convolution, zeros between its positions,
    and a crop. With `linear`, a Linear that reads maps or tokens (N, ..., C) is a 1x1 convolution on them, and counts.
    """

    name: ClassVar[str] = "pointwise"
    linear: bool = True

    def breaks(self, seen: Seen) -> bool:
        return seen.one_tap or (self.linear and seen.kind == "linear" and seen.maps)

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        if isinstance(layer, ConvTranspose):
            return self._transposed(layer)
        found = factors(layer.weight.shape[1], layer.dims)
        zeros = layer.padding_mode == "zeros" or not has_padding(layer.window)
        before, conv = ([], replace(layer, padding_mode="zeros")) if zeros else bare(layer)
        if found is None:
            return [*before, *conv_steps(_widened(conv))]
        window = tuple(
            Axis(n, n * axis.stride, 1, n * axis.lo, n * axis.hi) for n, axis in zip(found, conv.window, strict=True)
        )
        weight = conv.weight.reshape(conv.out_channels, -1, *found)
        return [*before, Shuffle(found), *conv_steps(Conv(weight, conv.bias, window, conv.groups))]

    def _transposed(self, layer: ConvTranspose) -> Steps:
        """``y[s*i - lo] = W^T x[i] + b``, b alone elsewhere."""
        strides = tuple(axis.stride for axis in layer.window)
        moved = max(strides) > 1 or has_padding(layer.window) or any(axis.hi < 0 for axis in layer.window)
        point = Conv(_turned(layer), None if moved else layer.bias, (Axis(),) * layer.dims, layer.groups)
        steps = self.rewrite(point)
        if moved:
            crop = tuple((-axis.lo, -axis.hi) for axis in layer.window)
            steps += [Stuff(strides), Pad(crop)]
            steps += [] if layer.bias is None else [AddBias(layer.bias, layer.dims)]
        return steps

    def why_dearer(self, seen: Seen) -> str:
        return "one channel a group has no factor" if seen.width == 1 else ""


def factors(width: int, dims: int) -> tuple[int, ...] | None:
    """The factors of the shuffle on each axis for that many channels a group; None where there are none.

    >>> factors(8, 2), factors(9, 2), factors(6, 2), factors(1, 2)
    ((2, 2), (3, 3), (1, 2), None)
    """
    divisors = [n for n in range(2, width + 1) if width % n == 0]
    for n in divisors:
        if width % n**dims == 0:
            return (n,) * dims
    return (*(1,) * (dims - 1), divisors[0]) if divisors else None


def _widened(conv: Conv) -> Conv:
    """Zeros beside the tap, on the last axis."""
    weight = conv.weight.new_zeros(*conv.weight.shape[:-1], 3)
    weight[..., 1] = conv.weight[..., 0]
    *others, last = (replace(axis, dilation=1) for axis in conv.window)
    wide = Axis(3, last.stride, 1, last.lo + 1, last.hi + 1)
    return Conv(weight, conv.bias, (*others, wide), conv.groups)


def _turned(layer: ConvTranspose) -> Tensor:
    """(C_in, C_out/g, 1...) -> (C_out, C_in/g, 1...)"""
    blocks = layer.weight.reshape(layer.groups, -1, layer.weight.shape[1], prod(layer.weight.shape[2:]))
    return blocks.transpose(1, 2).reshape(layer.out_channels, -1, *layer.weight.shape[2:])
