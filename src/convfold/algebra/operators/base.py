"""The operator class with its three signs, the operators that hold others, and the per-channel affine map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from math import prod
from operator import add, rshift
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from convfold.errors import InvalidArgument

__all__ = ["Affine", "Chain", "Concat", "Flat", "Op", "Sum", "chain_of", "sum_of"]


class Op:
    """An affine map; `dims`, `in_channels` and `out_channels` say between which spaces."""

    if TYPE_CHECKING:
        # Fields in some operators, computed in others: a run-time property would become a field's default.
        @property
        def dims(self) -> int: ...
        @property
        def in_channels(self) -> int: ...
        @property
        def out_channels(self) -> int: ...

    def __rshift__(self, other: Op) -> Chain:
        """``(a >> b)(x) = b(a(x))``."""
        return Chain((*_parts(self, Chain), *_parts(other, Chain)))

    def __add__(self, other: Op) -> Sum:
        """``(a + b)(x) = a(x) + b(x)``."""
        return Sum((*_parts(self, Sum), *_parts(other, Sum)))

    def __rmul__(self, factor: float) -> Chain:
        """Homogeneity: ``(p*a)(x) = p * a(x)``."""
        scale = torch.full((self.out_channels,), float(factor), dtype=torch.float64)
        return self >> Affine(scale, None, self.dims)


def _parts(op: Op, kind: type[Chain] | type[Sum]) -> tuple[Op, ...]:
    if isinstance(op, Chain) and kind is Chain:
        return op.parts
    if isinstance(op, Sum) and kind is Sum:
        return op.terms
    return (op,)


def chain_of(*parts: Op | None) -> Op:
    """``parts[0] >> parts[1] >> ...``, leaving out every None. Raises InvalidArgument when nothing is left."""
    present = [part for part in parts if part is not None]
    return reduce(rshift, present) if present else Chain(())


def sum_of(*terms: Op | None) -> Op:
    """``terms[0] + terms[1] + ...``, leaving out every None. Raises InvalidArgument when nothing is left."""
    present = [term for term in terms if term is not None]
    return reduce(add, present) if present else Sum(())


@dataclass(frozen=True, eq=False)
class Affine(Op):
    """``y = scale * x + shift``, per channel (C,); a shift of shape (C, *spatial) is a bias map."""

    scale: Tensor | None
    shift: Tensor | None
    dims: int

    def __post_init__(self) -> None:
        if self.scale is None and self.shift is None:
            raise InvalidArgument("Affine has neither scale nor shift", hint="Use Identity.")
        if self.scale is not None and self.scale.dim() != 1:
            raise InvalidArgument(
                "the scale of Affine is not per channel", got=f"shape {tuple(self.scale.shape)}", expected="(C,)"
            )

    @property
    def in_channels(self) -> int:
        tensor = self.scale if self.scale is not None else self.shift
        assert tensor is not None  # __post_init__ saw to it
        return int(tensor.shape[0])

    @property
    def out_channels(self) -> int:
        return self.in_channels


def _spaces(terms: tuple[Op, ...]) -> list[str]:
    return [f"{t.in_channels} -> {t.out_channels} in {t.dims}-D" for t in terms]


class _Branches(Op):
    """Operators that hold branches of one input."""

    terms: tuple[Op, ...]

    @property
    def dims(self) -> int:
        return self.terms[0].dims

    @property
    def in_channels(self) -> int:
        return self.terms[0].in_channels


@dataclass(frozen=True, eq=False)
class Sum(_Branches):
    """``y = sum_j terms[j](x)``."""

    terms: tuple[Op, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise InvalidArgument("a sum holds no operator")
        if len({(t.in_channels, t.out_channels, t.dims) for t in self.terms}) != 1:
            raise InvalidArgument(
                "branches of a sum differ in channels", got=_spaces(self.terms), expected="equal ones"
            )

    @property
    def out_channels(self) -> int:
        return self.terms[0].out_channels


@dataclass(frozen=True, eq=False)
class Concat(_Branches):
    """``y = concat_j terms[j](x)`` on the channel axis."""

    terms: tuple[Op, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise InvalidArgument("a concatenation holds no operator")
        if len({(t.in_channels, t.dims) for t in self.terms}) != 1:
            raise InvalidArgument("branches of a concatenation read different inputs", got=_spaces(self.terms))

    @property
    def out_channels(self) -> int:
        return sum(term.out_channels for term in self.terms)


@dataclass(frozen=True, eq=False)
class Chain(Op):
    """``y = parts[-1](...parts[1](parts[0](x)))``."""

    parts: tuple[Op, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise InvalidArgument("a chain holds no operator", hint="Use Identity.")
        for before, after in zip(self.parts, self.parts[1:], strict=False):
            if before.out_channels != after.in_channels or before.dims != after.dims:
                raise InvalidArgument(
                    f"{type(after).__name__} does not fit after {type(before).__name__}",
                    got=f"{before.out_channels} channels in {before.dims}-D",
                    expected=f"{after.in_channels} channels in {after.dims}-D",
                )

    @property
    def dims(self) -> int:
        return self.parts[0].dims

    @property
    def in_channels(self) -> int:
        return self.parts[0].in_channels

    @property
    def out_channels(self) -> int:
        return self.parts[-1].out_channels


@dataclass(frozen=True, eq=False)
class Flat(Op):
    """An operator on maps of one `size`, seen as a fully connected layer: ``y = vec(op(unvec(x)))``.

    vec puts channels first: (C, *size) -> (C * prod(size),). `out` is the size of the operator's output.
    """

    inner: Op
    size: tuple[int, ...]
    out: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.size) != self.inner.dims or len(self.out) != self.inner.dims:
            raise InvalidArgument(
                "Flat has sizes for another number of axes", got=f"{self.size} -> {self.out}", expected=self.inner.dims
            )

    @property
    def dims(self) -> int:
        return 0

    @property
    def in_channels(self) -> int:
        return self.inner.in_channels * prod(self.size)

    @property
    def out_channels(self) -> int:
        return self.inner.out_channels * prod(self.out)
