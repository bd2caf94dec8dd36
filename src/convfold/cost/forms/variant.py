"""A form of one layer, and what all of them share: letters, bounds, reasons."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from convfold.cost.forms.steps import Step, Term, total
from convfold.errors import InvalidArgument
from convfold.geometry.closed import Layer, full_rank

__all__ = ["Variant", "bounded", "kernel_rank", "letters", "made", "read_over_written", "spread"]


@dataclass(frozen=True)
class Variant:
    """A form of one layer: its operators, what it writes, its reach, and its ratio to the convolution, term by term.

    `reach`: positions of the input that one output depends on, along each axis. `degrees`: the dimension of the set of
    maps that the form can be, at most the number of its weights. `rank`: of its kernel, outputs by inputs, for almost
    all weights; None where the map is not linear.
    """

    name: str
    steps: tuple[Step, ...]
    out_channels: int
    out_size: tuple[int, ...]
    reach: tuple[int, ...]
    degrees: int
    rank: int | None
    terms: tuple[Term, ...]

    @property
    def macs(self) -> int:
        return total(self.steps, "macs")

    @property
    def weights(self) -> int:
        return total(self.steps, "weights")

    @property
    def ratio(self) -> Fraction:
        """Multiply-accumulates over those of the convolution."""
        return sum((one.value for one in self.terms), Fraction(0))

    @property
    def letters(self) -> str:
        """The ratio in letters: C and N channels in and out, g groups, K taps, I and S positions in and out."""
        return " + ".join(one.letters for one in self.terms)

    @property
    def numbers(self) -> str:
        """The ratio with the numbers put in."""
        return " + ".join(str(one.value) for one in self.terms)


def made(
    name: str,
    layer: Layer,
    steps: tuple[Step, ...],
    terms: list[Term],
    degrees: int,
    rank: int | None,
    *,
    channels: int | None = None,
    size: tuple[int, ...] | None = None,
    reach: tuple[int, ...] | None = None,
) -> Variant:
    return Variant(
        name, steps, channels or layer.out_channels, size or layer.out_size,
        reach or tuple(axis.span for axis in layer.window), degrees, rank, tuple(terms),
    )  # fmt: skip


def spread(layer: Layer, form: str) -> None:
    if layer.taps == 1:
        raise InvalidArgument(f"{form} is a form of kernels with more than one tap", got="a kernel of one tap")


def bounded(what: str, rank: int, full: int) -> None:
    if rank > full:
        raise InvalidArgument(f"{what} is above full", got=rank, expected=f"at most {full}")


def letters(layer: Layer) -> dict[str, tuple[str, int]]:
    values = {"C": layer.in_channels, "N": layer.out_channels, "g": layer.groups, "K": layer.taps}
    return {letter: (letter, value) for letter, value in values.items()}


def read_over_written(layer: Layer) -> tuple[Fraction, str]:
    return Fraction(layer.read, layer.written), "(I/S)"


def kernel_rank(layer: Layer) -> int:
    return layer.groups * full_rank(layer)
