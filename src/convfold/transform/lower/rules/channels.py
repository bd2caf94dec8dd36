"""Channels in multiples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from convfold.algebra import Conv, ConvTranspose
from convfold.transform.lower.emit import Steps, conv_steps, transposed_steps
from convfold.transform.lower.rules.base import Rule, whole_number
from convfold.transform.lower.seen import Seen
from convfold.transform.lower.steps import PadChannels, TakeChannels

__all__ = ["Channels"]


@dataclass(frozen=True)
class Channels(Rule):
    """Input and output channels filled up to a multiple of `multiple`.

    ``W' = [[W, 0], [0, 0]]``: zero channels are appended to the input, and the outputs that the zero rows give are left
    out again. With groups, either each group is filled up or groups of zeros are appended, whichever multiplies less.
    Transposed convolutions too. `inputs` and `outputs` say which side the hardware is strict about. The zeros are
    multiplied.
    """

    name: ClassVar[str] = "channels"
    multiple: int = 8
    inputs: bool = True
    outputs: bool = True

    def __post_init__(self) -> None:
        whole_number(self, "multiple", 1)

    def breaks(self, seen: Seen) -> bool:
        if seen.kind == "linear":
            return False
        return self._uneven(seen.in_channels, self.inputs) or self._uneven(seen.out_channels, self.outputs)

    def _uneven(self, count: int, strict: bool) -> bool:
        return strict and count % self.multiple != 0

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        groups = layer.groups
        ins, outs = layer.in_channels // groups, layer.out_channels // groups
        wide_ins, wide_outs = (self._filled(n, groups, s) for n, s in ((ins, self.inputs), (outs, self.outputs)))
        more = groups
        while self._uneven(more * ins, self.inputs) or self._uneven(more * outs, self.outputs):
            more += 1
        if more * ins * outs < groups * wide_ins * wide_outs:
            # Groups of zeros at the end: for the steps around it is one run of channels.
            ends = ((1, groups * ins, more * ins), (1, groups * outs, more * outs))
            wide = _filled_up(layer, more, ins, outs)
        else:
            ends = ((groups, ins, wide_ins), (groups, outs, wide_outs))
            wide = _filled_up(layer, groups, wide_ins, wide_outs)
        before: Steps = [PadChannels(*ends[0], layer.dims)] if ends[0][1] != ends[0][2] else []
        after: Steps = [TakeChannels(*ends[1], layer.dims)] if ends[1][1] != ends[1][2] else []
        inner = transposed_steps(wide) if isinstance(wide, ConvTranspose) else conv_steps(wide)
        return [*before, *inner, *after]

    def _filled(self, width: int, groups: int, strict: bool) -> int:
        step = self.multiple // gcd(self.multiple, groups) if strict else 1
        return -(-width // step) * step

    def why_dearer(self, seen: Seen) -> str:
        return "the zero channels are multiplied"


def _filled_up(layer: Conv | ConvTranspose, groups: int, ins: int, outs: int) -> Conv | ConvTranspose:
    """`layer` with that many groups of `ins` and `outs` channels, the new ones zero."""
    rows, columns = (ins, outs) if isinstance(layer, ConvTranspose) else (outs, ins)
    weight = _grown(layer.weight, layer.groups, groups, rows, columns)
    bias = None if layer.bias is None else _grown(layer.bias[:, None], layer.groups, groups, outs, 1).flatten()
    return replace(layer, weight=weight, bias=bias, groups=groups)


def _grown(weight: Tensor, before: int, groups: int, rows: int, columns: int) -> Tensor:
    """(g*R, C, *k) -> (g'*R', C', *k)"""
    blocks = weight.reshape(before, -1, *weight.shape[1:])
    kernel = (0, 0) * (weight.dim() - 2)
    more = (0, columns - blocks.shape[2], 0, rows - blocks.shape[1], 0, groups - before)
    return F.pad(blocks, [*kernel, *more]).reshape(groups * rows, columns, *weight.shape[2:])
