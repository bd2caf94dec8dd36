"""Padding as an operator of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from convfold.algebra import Conv, ConvTranspose
from convfold.errors import InvalidArgument
from convfold.transform.lower.emit import Steps, bare, conv_steps
from convfold.transform.lower.rules.base import Rule
from convfold.transform.lower.seen import Seen

__all__ = ["Padding"]

_KINDS = ("asymmetric", "any")


@dataclass(frozen=True)
class Padding(Rule):
    """``conv(x) = conv_without_padding(pad(x))``: padding on its own, before the convolution.

    which = "asymmetric": only where the two sides of an axis differ (padding="same" with an even kernel).
    which = "any": no convolution pads. Modes other than zeros are kept by the padding. Padding of a transposed
    convolution is a crop of its output, and stays.
    """

    name: ClassVar[str] = "padding"
    which: str = "asymmetric"

    def __post_init__(self) -> None:
        if self.which not in _KINDS:
            raise InvalidArgument(
                f"the rule {self.name} knows no such padding",
                where="which",
                got=repr(self.which),
                expected=f"one of {_KINDS}",
            )

    def breaks(self, seen: Seen) -> bool:
        if seen.kind != "conv":
            return False
        if self.which == "asymmetric":
            return any(axis.lo != axis.hi for axis in seen.window)
        return any(axis.lo or axis.hi for axis in seen.window)

    def rewrite(self, layer: Conv | ConvTranspose) -> Steps:
        assert isinstance(layer, Conv)  # nothing else breaks the rule
        steps, plain = bare(layer)
        return [*steps, *conv_steps(plain)]
