"""What a call of an operator asks of a machine: its kind, its multiply-accumulates, the bytes it moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

__all__ = ["CONVOLUTIONS", "KINDS", "Work", "convolution", "kind_of", "linear", "moving", "pooling"]

CONVOLUTIONS = ("dense", "pointwise", "grouped", "depthwise", "dilated", "transposed")
KINDS = (*CONVOLUTIONS, "linear", "pooling", "norm", "elementwise")

Shape = Sequence[int]


@dataclass(frozen=True)
class Work:
    """`calls` calls together: `macs` of convolutions or products (of a pooling the elements added up), and `bytes`.

    Bytes are those of each input, weight and output once, as if a cache held nothing before a call and everything
    during it. `flops` are two for each of the MACs; `intensity` is flops for each byte.
    """

    kind: str
    macs: int
    bytes: int
    calls: int = 1

    @property
    def flops(self) -> int:
        return 2 * self.macs

    @property
    def intensity(self) -> float:
        return self.flops / self.bytes if self.bytes else 0.0


def convolution(
    read: Shape,
    weight: Shape,
    written: Shape,
    groups: int,
    *,
    dilation: Shape = (),
    transposed: bool = False,
    item: int = 4,
) -> Work:
    """A convolution from a tensor of shape `read` to one of shape `written`, (N, C, *positions) both.

    ``macs = written * C_in/g * taps``, or ``read * C_out/g * taps`` of a transposed one; zero padding is counted.
    `item` are the bytes of an element.
    """
    macs = prod(read if transposed else written) * prod(weight[1:])
    kind = kind_of(read[1], written[1], weight[2:], groups, dilation, transposed)
    return Work(kind, macs, item * (prod(read) + prod(weight) + prod(written)))


def kind_of(inputs: int, outputs: int, taps: Shape, groups: int, dilation: Shape, transposed: bool) -> str:
    """Which of `CONVOLUTIONS` a convolution is."""
    if transposed:
        return "transposed"
    if groups > 1:
        return "depthwise" if groups == inputs and outputs % inputs == 0 else "grouped"
    if prod(taps) == 1:
        return "pointwise"
    return "dilated" if any(step > 1 for step in dilation) else "dense"


def linear(read: Shape, weight: Shape, *, item: int = 4) -> Work:
    """A product with a matrix of shape (out, in) over the last axis of `read`."""
    rows = prod(read[:-1])
    return Work("linear", rows * prod(weight), item * (prod(read) + prod(weight) + rows * weight[0]))


def pooling(read: Shape, written: Shape, taps: int, *, item: int = 4) -> Work:
    """A pooling over windows of `taps` positions."""
    return Work("pooling", prod(written) * taps, item * (prod(read) + prod(written)))


def moving(kind: str, read: int, written: int, *, item: int = 4) -> Work:
    """What reads and writes so many elements and computes next to nothing: elementwise work, normalisation, copies."""
    return Work(kind, 0, item * (read + written))
