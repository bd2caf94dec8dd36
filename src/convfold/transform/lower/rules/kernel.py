"""Large kernels as small ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise, product
from typing import ClassVar

from torch import nn

from convfold.algebra import Conv, ConvTranspose
from convfold.geometry import Axis
from convfold.transform.lower.emit import Steps, bare, conv_steps, joined
from convfold.transform.lower.rules.base import Rule, whole_number
from convfold.transform.lower.rules.stack import stacked
from convfold.transform.lower.rules.transposed import sub_pixel
from convfold.transform.lower.seen import Seen
from convfold.transform.lower.steps import Stack, Tiles

__all__ = ["MaxKernel"]


@dataclass(frozen=True)
class MaxKernel(Rule):
    """Kernels of more than `size` taps on an axis as small ones after each other, or beside each other.

    After each other (`stack`): where the kernel is such a product and that multiplies less; see `stacked`.
    Beside each other, always exact: ``W*x = sum_t W_t * x[. + d*start_t]``, the kernel cut into blocks of even sizes,
    each a convolution over the padded map without its first ``d*start_t`` positions. As many multiply-accumulates as
    before. A transposed convolution becomes a convolution and a pixel shuffle first.
    """

    name: ClassVar[str] = "max-kernel"
    size: int = 3
    stack: bool = True

    def __post_init__(self) -> None:
        whole_number(self, "size", 1)

    def breaks(self, seen: Seen) -> bool:
        return any(k > self.size for k in seen.kernel)

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        if isinstance(layer, ConvTranspose):
            return sub_pixel(layer)
        before, conv = bare(layer)
        found = stacked(conv, self.size) if self.stack else None
        if found is not None:
            stages = [module for stage in found.convs for module in conv_steps(stage)]
            return [*before, Stack(found.amplification, stages)]
        return [*before, Tiles(self._tiles(conv))]

    def _tiles(self, conv: Conv) -> list[nn.Module]:
        tiles = []
        for number, blocks in enumerate(product(*(_cut(axis.kernel, self.size) for axis in conv.window))):
            taps = tuple(slice(start, stop) for start, stop in blocks)
            window = tuple(
                Axis(
                    stop - start,
                    axis.stride,
                    axis.dilation,
                    -axis.dilation * start,
                    -axis.dilation * (axis.kernel - stop),
                )
                for (start, stop), axis in zip(blocks, conv.window, strict=True)
            )
            weight, bias = conv.weight[(slice(None), slice(None), *taps)], None if number else conv.bias
            tiles.append(joined(conv_steps(replace(conv, weight=weight, bias=bias, window=window))))
        return tiles

    def why_dearer(self, seen: Seen) -> str:
        return "zero taps are multiplied" if seen.kind == "transposed" else ""


def _cut(taps: int, size: int) -> list[tuple[int, int]]:
    """As few blocks as there must be, of sizes that differ by one at most.

    >>> _cut(7, 3)
    [(0, 3), (3, 5), (5, 7)]
    """
    count = -(-taps // size)
    ends = [0]
    for i in range(count):
        ends.append(ends[-1] + taps // count + (i < taps % count))
    return list(pairwise(ends))
