"""The operators that a form of a convolution consists of: what each executes, keeps and moves, on plain integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

from convfold.geometry.closed import Layer, convolution

__all__ = ["Sized", "Step", "Term", "chain", "conv_step", "term", "total"]


@dataclass(frozen=True)
class Step:
    """One operator: multiply-accumulates, weights, FLOPs beyond two for each of the former; elements read and written.

    `read` leaves the weights out, which are read as well.
    """

    name: str
    macs: int
    weights: int
    rest: int
    read: int
    written: int


@dataclass(frozen=True)
class Term:
    """One summand of a ratio of multiply-accumulates: in letters, and its value."""

    letters: str
    value: Fraction


Sized = tuple[str, int]


def term(above: Sequence[Sized], below: Sequence[Sized], at: Fraction = Fraction(1), where: str = "") -> Term:
    """``above / below`` times `at`, a ratio of positions named `where`; letters whose value is 1 are left out.

    >>> term([("g", 1), ("m", 2)], [("N", 16)])
    Term(letters='m/N', value=Fraction(1, 8))
    """
    over = [letter for letter, value in above if value != 1] + ([where] if at != 1 else [])
    under = [letter for letter, value in below if value != 1]
    value = Fraction(prod(v for _, v in above), prod(v for _, v in below)) * at
    bottom = f"/({' '.join(under)})" if len(under) > 1 else f"/{under[0]}" if under else ""
    return Term((" ".join(over) or "1") + bottom, value)


def conv_step(layer: Layer, name: str = "") -> Step:
    """A convolution without a bias."""
    macs, weights = convolution(layer)
    kernel = "x".join(str(axis.kernel) for axis in layer.window)
    read, written = layer.in_channels * layer.read, layer.out_channels * layer.written
    return Step(name or kernel, macs, weights, 0, read, written)


def chain(layer: Layer, parts: Sequence[tuple[Layer, str]]) -> tuple[Step, ...]:
    """Convolutions one after the other, each at the sizes that the one before it writes."""
    steps, size = list[Step](), layer.size
    for part, name in parts:
        here = replace(part, size=size, batch=layer.batch)
        steps.append(conv_step(here, name))
        size = here.out_size
    return tuple(steps)


def total(steps: Sequence[Step], what: str) -> int:
    """The sum of one figure over the steps."""
    return sum(getattr(step, what) for step in steps)
