"""Which positions along one axis of an input each element of a tensor depends on: exact interval arithmetic.

A `Reach` says it with integers only. An element's indices along the tensor's dimensions give one number

    v = sum over terms of coefficient * ((index // divisor) mod modulus)

and the element depends on the input's positions from ``lo(v)`` to ``hi(v)``. Both repeat themselves:
``lo(v + period) = lo(v) + advance``. So jump = advance / period is a fraction, an upsampling has as many
entries as phases, and dimensions that were split or merged (windows, tokens, space to depth) are still told
apart. No term: every element depends on the same positions. Composition is exact: the hull over the taps
of an operator of the hulls of what it reads. Borders are not looked at: positions below 0 or beyond the
input are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import reduce
from math import gcd, lcm
from typing import NamedTuple

__all__ = ["LONGEST", "Bounds", "Reach", "constant", "identity"]

# An interval, or None where an element depends on no position at all (between the taps of a transposed convolution).
Bounds = tuple[int, int] | None

LONGEST = 4096  # phases beyond which an exact reach is given up


class Term(NamedTuple):
    """``coefficient * ((index along dim // divisor) mod modulus)``; modulus 0 is none."""

    dim: int
    coefficient: int = 1
    divisor: int = 1
    modulus: int = 0

    def value(self, index: int) -> int:
        whole = index // self.divisor
        return self.coefficient * (whole % self.modulus if self.modulus else whole)

    @property
    def plain(self) -> bool:
        return self.divisor == 1 and self.modulus == 0


def hull(parts: Iterable[Bounds]) -> Bounds:
    """The smallest interval that holds all of them."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    return min(lo for lo, _ in present), max(hi for _, hi in present)


@dataclass(frozen=True)
class Reach:
    """``table[v mod period]``, shifted by ``advance`` per period."""

    terms: tuple[Term, ...]
    table: tuple[Bounds, ...]
    advance: int

    def at(self, v: int) -> Bounds:
        """The positions that elements of number `v` depend on."""
        turns, phase = divmod(v, len(self.table))
        bounds = self.table[phase]
        return bounds and (bounds[0] + turns * self.advance, bounds[1] + turns * self.advance)

    def of(self, index: Sequence[int]) -> Bounds:
        """The positions that the element at `index` depends on."""
        return self.at(sum(term.value(index[term.dim]) for term in self.terms))

    @property
    def dims(self) -> set[int]:
        """The dimensions along which elements depend on different positions."""
        return {term.dim for term in self.terms}

    @property
    def jump(self) -> Fraction:
        """Positions of the input from one number to the next: the product of the strides on the way."""
        return Fraction(self.advance, len(self.table))

    @property
    def size(self) -> int:
        """Positions that an element depends on, the largest over all phases."""
        return max((hi - lo + 1 for lo, hi in filter(None, self.table)), default=0)

    def moved(self, places: Mapping[int, int]) -> Reach:
        """The same with its dimensions renamed."""
        return replace(self, terms=tuple(sorted(t._replace(dim=places[t.dim]) for t in self.terms)))

    def window(self, dim: int, stride: int, offsets: Iterable[int]) -> Reach | None:
        """Element i along `dim` reads elements ``stride * i + offset`` of this, for every offset.

        None when neighbours along `dim` are not neighbours in the input.
        """
        if dim not in self.dims:
            return self
        settled = self._settled(dim)
        if settled is None:
            return None
        step = next(t.coefficient for t in settled.terms if t.dim == dim)
        offsets = [step * offset for offset in offsets]
        if len(settled.table) == 1:  # monotone: the ends decide
            offsets = [min(offsets), max(offsets)]
        table = tuple(hull(settled.at(v + o) for o in offsets) for v in range(len(settled.table)))
        terms = (t._replace(coefficient=step * stride) if t.dim == dim else t for t in settled.terms)
        return _reduced(terms, table, settled.advance)

    def resample(self, dim: int, period: int, step: int, taps: Callable[[int], Iterable[int]]) -> Reach | None:
        """Element i along `dim` reads elements ``taps(i)``, where ``taps(i + period) = taps(i) + step``.

        None when neighbours along `dim` are not neighbours in the input, when other dimensions matter too,
        or with more than LONGEST phases.
        """
        if dim not in self.dims:
            return self
        settled = self._settled(dim)
        if settled is None or settled.terms != (Term(dim),):
            return None
        turns = len(settled.table) // gcd(len(settled.table), step)
        if period * turns > LONGEST:
            return None
        table = tuple(hull(map(settled.at, taps(i))) for i in range(period * turns))
        return _reduced((Term(dim),), table, settled.advance * step * turns // len(settled.table))

    def _settled(self, dim: int) -> Reach | None:
        """The same with one plain term along `dim`; a divisor becomes phases."""
        here = [t for t in self.terms if t.dim == dim]
        if here == [here[0]._replace(divisor=1, modulus=0)]:
            return self
        if self.terms != (Term(dim, divisor=here[0].divisor),):
            return None
        repeats = here[0].divisor
        return _reduced((Term(dim),), tuple(b for b in self.table for _ in range(repeats)), self.advance)

    def whole(self, dim: int, size: int) -> Reach:
        """Every element reads all `size` elements along `dim`, which does not matter any more."""
        here = [t for t in self.terms if t.dim == dim]
        if not here:
            return self
        if len(self.table) == 1 and all(t.plain for t in here):
            values = {0, here[0].coefficient * (max(size, 1) - 1)}  # monotone: the ends decide
        else:
            values = {sum(t.value(i) for t in here) for i in range(size)} or {0}
        table = tuple(hull(self.at(v + o) for o in values) for v in range(len(self.table)))
        return _reduced((t for t in self.terms if t.dim != dim), table, self.advance)

    def split(self, dim: int, inner: int, places: tuple[int, int]) -> Reach | None:
        """Dimension `dim` becomes two at `places`, the second of size `inner`; the others keep their names."""
        terms = [t for t in self.terms if t.dim != dim]
        for _, factor, divisor, modulus in (t for t in self.terms if t.dim == dim):
            if divisor % inner == 0:
                terms.append(Term(places[0], factor, divisor // inner, modulus))
            elif modulus and inner % (divisor * modulus) == 0:
                terms.append(Term(places[1], factor, divisor, 0 if inner == divisor * modulus else modulus))
            elif inner % divisor == 0 and modulus % (parts := inner // divisor) == 0:
                terms.append(Term(places[0], factor * parts, 1, modulus // parts))
                terms.append(Term(places[1], factor, divisor))
            else:
                return None
        return replace(self, terms=tuple(sorted(terms)))

    def merge(self, outer: int, inner: int, inner_size: int) -> Reach | None:
        """Dimensions `outer` and `inner` become one, named `outer`: index = outer * inner_size + inner.

        None where a divisor does not fit into `inner_size`.
        """
        terms = [t for t in self.terms if t.dim not in (outer, inner)]
        far = [t._replace(divisor=t.divisor * inner_size) for t in self.terms if t.dim == outer]
        for term in (t for t in self.terms if t.dim == inner):
            if inner_size % term.divisor:
                return None
            near = Term(outer, term.coefficient, term.divisor, term.modulus or inner_size // term.divisor)
            behind = Term(outer, near.coefficient * near.modulus, near.divisor * near.modulus)
            if (further := next((t for t in far if t._replace(modulus=0) == behind), None)) is not None:
                far.remove(further)
                near = near._replace(modulus=near.modulus * further.modulus)
            far.append(near)
        return replace(self, terms=tuple(sorted(terms + far)))

    def slide(self, dim: int, step: int, inner: int) -> Reach | None:
        """Windows that start every `step` elements along `dim`; their elements lie along a new dimension `inner`."""
        settled = self._settled(dim) if dim in self.dims else self
        if settled is None or dim not in self.dims:
            return settled
        factor = next(t.coefficient for t in settled.terms if t.dim == dim)
        rest = (t for t in settled.terms if t.dim != dim)
        return replace(settled, terms=tuple(sorted([*rest, Term(dim, factor * step), Term(inner, factor)])))

    def join(self, other: Reach) -> Reach | None:
        """Elements that read both; None when they do not lie alike in the two."""
        if self == other:
            return self
        if self.terms != other.terms or (self.terms and self.jump != other.jump):
            return None
        period = lcm(len(self.table), len(other.table))
        if period > LONGEST:
            return None
        table = tuple(hull((self.at(v), other.at(v))) for v in range(period))
        return _reduced(self.terms, table, int(self.jump * period))

    def span(self, shape: tuple[int, ...]) -> Bounds:
        """The hull over all elements of a tensor of that shape."""
        spread = self
        for dim in self.dims:
            spread = spread.whole(dim, shape[dim])
        return spread.table[0]


def _reduced(given: Iterable[Term], table: tuple[Bounds, ...], advance: int) -> Reach:
    """The same reach with coefficients that have no common divisor and the shortest table."""
    terms = tuple(t for t in given if t.coefficient)
    if not terms:
        return Reach((), table[:1], 0)
    common = reduce(gcd, (t.coefficient for t in terms))
    if common > 1:
        source = Reach((), table, advance)
        period = len(table) // gcd(len(table), common)
        table = tuple(source.at(common * v) for v in range(period))
        advance = advance * common * period // len(source.table)
        terms = tuple(t._replace(coefficient=t.coefficient // common) for t in terms)
    for period in range(1, len(table)):
        if len(table) % period == 0 and advance * period % len(table) == 0:
            short = Reach(terms, table[:period], advance * period // len(table))
            if all(short.at(v) == bounds for v, bounds in enumerate(table)):
                return short
    return Reach(terms, table, advance)


def identity(dim: int) -> Reach:
    """The reach of an input itself along one of its axes: element i is position i."""
    return Reach((Term(dim),), ((0, 0),), 1)


def constant(bounds: Bounds) -> Reach:
    """Every element depends on the same positions."""
    return Reach((), (bounds,), 0)
