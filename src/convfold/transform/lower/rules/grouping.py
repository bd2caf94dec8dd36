"""Fewer and wider groups."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from convfold.algebra import Conv, ConvTranspose, regroup
from convfold.transform.lower.emit import Steps, conv_steps, transposed_steps
from convfold.transform.lower.rules.base import Rule, whole_number
from convfold.transform.lower.seen import Seen

__all__ = ["Grouping"]


@dataclass(frozen=True)
class Grouping(Rule):
    """Depthwise to dense, or to groups of at least `width` channels.

    Block-diagonal: ``W'[o, b*(I/g) + i] = W[o, i]`` for an output o in block b of its new group, zero elsewhere. The
    new number of groups is the largest divisor of the old one that gives each `width` input channels or more; 0 asks
    for one group, dense. With `depthwise` only convolutions of one input channel a group are meant. Transposed
    convolutions too. Multiply-accumulates grow as the groups get fewer: the zeros are multiplied.
    """

    name: ClassVar[str] = "grouping"
    width: int = 0
    depthwise: bool = False

    def __post_init__(self) -> None:
        whole_number(self, "width", 0)

    def breaks(self, seen: Seen) -> bool:
        if seen.groups == 1:
            return False
        return seen.width == 1 if self.depthwise else self.width == 0 or seen.width < self.width

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        wanted = self.width or layer.in_channels
        legal = (g for g in range(layer.groups, 0, -1) if layer.groups % g == 0 and layer.in_channels // g >= wanted)
        # Fewer than before in any case: with `depthwise` a width of one is met from the start.
        groups = next((g for g in legal if g < layer.groups), 1)
        weight = regroup(layer.weight, layer.groups, groups)
        if isinstance(layer, ConvTranspose):
            return transposed_steps(replace(layer, weight=weight, groups=groups))
        return conv_steps(replace(layer, weight=weight, groups=groups))

    def why_dearer(self, seen: Seen) -> str:
        return "the zeros between the old groups are multiplied"
