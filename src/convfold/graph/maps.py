"""Linear maps by shape alone: what results when two are chained, added, or joined, and which law says so.

A `Map` holds integers and a recipe; no tensor is touched until `convfold.graph.weights` follows the recipe.
It acts on one channel axis of a value and on the axes behind it; a map without an axis acts on every element.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from convfold.errors import NotFoldable, Refusal
from convfold.geometry import (
    Window,
    chain,
    chain_groups,
    has_padding,
    kept_groups,
    point,
    reads_past_border,
)

__all__ = [
    "IDENTITY",
    "After",
    "Block",
    "Columns",
    "Given",
    "Kind",
    "Map",
    "Plus",
    "Recipe",
    "Rows",
    "Seen",
    "after",
    "common_axis",
    "is_pointwise",
    "keeps_constants",
    "refused",
    "seen",
    "select",
    "widened",
]

Kind = Literal["identity", "scalar", "diagonal", "select", "pool", "conv", "transposed"]
POINTWISE = ("identity", "scalar", "diagonal", "select")


@dataclass(frozen=True, eq=False)
class Given:
    """A tensor of the frontend's, by its key, in the shape that the kind of map has.

    conv (O, I/g, *k), transposed (I, O/g, *k), diagonal (C,), scalar one element.
    """

    key: Hashable


@dataclass(frozen=True, eq=False)
class After:
    """``second(first(x))``."""

    first: Map
    second: Map


@dataclass(frozen=True, eq=False)
class Plus:
    """``sum_j maps[j](x)``."""

    maps: tuple[Map, ...]


@dataclass(frozen=True, eq=False)
class Columns:
    """``sum_j maps[j](x_j)`` for x the concatenation of the x_j, of these widths: kernels side by side."""

    maps: tuple[Map, ...]
    widths: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Rows:
    """The concatenation of ``maps[j](x)``: kernels one under the other."""

    maps: tuple[Map, ...]


@dataclass(frozen=True, eq=False)
class Block:
    """The part of `whole` that reads input channels `start` to `stop`; all rows, or those of `diagonal` blocks."""

    whole: Map
    start: int
    stop: int
    diagonal: bool


@dataclass(frozen=True, eq=False)
class Seen:
    """A pointwise map seen on another channel axis, behind which other axes stand.

    Where one channel became a run of several, a diagonal repeats its numbers.
    """

    inner: Map


# None: the kind alone says it all.
Recipe = Given | After | Plus | Columns | Rows | Block | Seen | None


@dataclass(frozen=True, eq=False)
class Map:
    """A linear map from `cols` channels to `rows`, on `axis`, over `window`, in `groups`.

    `window` is empty where nothing but the channels is mixed (identity, scalar, diagonal, select, Linear). A
    `factor` is the known value of a scalar, an `index` that of a selection; all other values follow `recipe`.
    """

    kind: Kind
    rows: int = 0
    cols: int = 0
    axis: int | None = None
    window: Window = ()
    groups: int = 1
    recipe: Recipe = None
    factor: float | None = None
    index: tuple[int, ...] | None = None

    @property
    def dense(self) -> bool:
        """Whether it mixes channels or positions: what a convolution or a product is executed for."""
        return self.kind in ("conv", "transposed")

    @property
    def parameters(self) -> int:
        """The elements of the tensor that it is computed with: ``O * I/g * taps`` of a dense one, C of a diagonal."""
        if self.dense:
            return self.rows * self.cols // self.groups * prod(axis.kernel for axis in self.window)
        return self.rows if self.kind == "diagonal" else 0


IDENTITY = Map("identity")


def refused(reason: str, hint: str = "") -> NotFoldable:
    """The error for two maps that are not one."""
    return NotFoldable(Refusal("chain", reason, hint=hint))


def select(index: tuple[int, ...], cols: int, axis: int) -> Map:
    """``y[o] = x[index[o]]`` on the channel axis."""
    if index == tuple(range(cols)):
        return IDENTITY
    return Map("select", len(index), cols, axis, index=index)


def is_pointwise(m: Map) -> bool:
    """Whether it commutes with what acts on every channel alike: one tap, no stride, no padding."""
    return m.kind in POINTWISE or (m.kind == "conv" and all(a == point(1)[0] for a in m.window))


def keeps_constants(m: Map) -> bool:
    """Whether a value constant over the positions stays constant: no tap ever reads padding."""
    if m.kind == "transposed":
        return all(a.kernel == a.stride == 1 and a.lo == a.hi == 0 for a in m.window)
    return not has_padding(m.window)


def common_axis(*maps: Map) -> int | None:
    """The channel axis that all of them act on. Raises NotFoldable where they differ."""
    known = {m.axis for m in maps if m.axis is not None}
    if len(known) > 1:
        raise refused("the two act on different axes")
    return known.pop() if known else None


def widened(window: Window, dims: int) -> Window:
    """The window, or where there is none that of a 1x1 convolution on `dims` axes."""
    return window or point(dims)


def after(first: Map, second: Map) -> Map:
    """``second o first``. Raises NotFoldable where no single map is equal.

    Diagonals scale rows or columns, selections move them, convolutions compose by `geometry.chain`; groups
    become their greatest common divisor and stay blocks.
    """
    if first.kind == "identity":
        return second
    if second.kind == "identity":
        return first
    axis, recipe = common_axis(first, second), After(first, second)
    if first.kind == "scalar" and second.kind == "scalar":
        known = first.factor is not None and second.factor is not None
        factor = first.factor * second.factor if known else None  # type: ignore[operator]
        return Map("scalar", recipe=recipe, factor=factor)
    if first.kind == "scalar":
        kind = "conv" if second.kind in ("select", "pool") else second.kind
        groups = second.groups if second.kind != "select" else 1
        return replace(second, kind=kind, recipe=recipe, groups=groups, index=None)
    if second.kind == "scalar":
        kind = "conv" if first.kind in ("select", "pool") else first.kind
        groups = first.groups if first.kind != "select" else 1
        return replace(first, kind=kind, recipe=recipe, groups=groups, index=None)
    if first.rows != second.cols:
        raise refused(f"the first gives {first.rows} channels, the second reads {second.cols}")
    if first.kind == second.kind == "diagonal":
        return replace(first, axis=axis, recipe=recipe)
    if first.kind == second.kind == "select":
        assert first.index is not None
        assert second.index is not None
        return select(tuple(first.index[j] for j in second.index), first.cols, axis or 0)
    return _general(first, second, axis, recipe)


def _general(first: Map, second: Map, axis: int | None, recipe: After) -> Map:
    if "transposed" in (first.kind, second.kind):
        return _transposed(first, second, axis, recipe)
    dims = max(len(first.window), len(second.window))
    rows_, cols = second.rows, first.cols
    if first.kind == "diagonal":
        groups = second.groups if second.kind != "select" else 1
        return Map("conv", rows_, cols, axis, second.window, groups, recipe)
    if second.kind == "diagonal":
        groups = first.groups if first.kind != "select" else 1
        return Map("conv", rows_, cols, axis, first.window, groups, recipe)
    if first.kind == "select":
        assert first.index is not None
        groups = kept_groups(second.groups, first.index, first.cols, first.rows)
        return Map("conv", rows_, cols, axis, second.window, groups, recipe)
    if second.kind == "select":
        assert second.index is not None
        groups = kept_groups(first.groups, second.index, first.rows, second.rows)
        return Map("conv", rows_, cols, axis, first.window, groups, recipe)
    one, two = widened(first.window, dims), widened(second.window, dims)
    if reads_past_border(one, two):
        raise refused("the second pads with zeros where the first one's response is not zero")
    groups = chain_groups(first.groups, second.groups)
    window = chain(one, two)
    # A pooling has no dilation: taps apart are a convolution.
    dilated = any(a.kernel > 1 and a.dilation > 1 for a in window)
    if first.kind == second.kind == "pool" and not dilated and (averaged := _averaged(first, second)) is not None:
        return Map("pool", rows_, cols, axis, window, groups, averaged)
    return Map("conv", rows_, cols, axis, window, groups, recipe)


def _averaged(first: Map, second: Map) -> Given | None:
    """The average of an average, where one of the two is only a padding and all taps weigh the same."""
    divisors = [
        m.recipe.key[1] for m in (first, second) if isinstance(m.recipe, Given) and isinstance(m.recipe.key, tuple)
    ]
    one_tap = any(all(axis.kernel == 1 for axis in m.window) for m in (first, second))
    return Given(("average", divisors[0] * divisors[1])) if one_tap and len(divisors) == 2 else None


def seen(m: Map, axis: int, spread: int = 1) -> Map:
    """A pointwise map on another channel `axis`; a diagonal may have each channel become a run of `spread`.

    Raises NotFoldable for a map that mixes positions, or one that mixes channels where they become runs.
    """
    if m.kind in ("identity", "scalar"):
        return m
    if not is_pointwise(m):
        raise refused("it mixes positions, so it does not commute with what stands between")
    if spread != 1 and m.kind != "diagonal":
        raise refused("it mixes channels that become positions")
    if m.kind == "select":
        return replace(m, axis=axis)
    recipe = m.recipe if m.kind == "diagonal" and spread == 1 else Seen(m)
    return replace(m, axis=axis, window=(), rows=m.rows * spread, cols=m.cols * spread, recipe=recipe)


def _transposed(first: Map, second: Map, axis: int | None, recipe: After) -> Map:
    """A transposed convolution takes in pointwise maps on either side."""
    other = second if first.kind == "transposed" else first
    if "select" in (first.kind, second.kind) or not is_pointwise(other) or first.kind == second.kind:
        raise refused("a transposed convolution composes with pointwise maps only")
    dense = first if first.kind == "transposed" else second
    groups = dense.groups if other.kind == "diagonal" else chain_groups(first.groups, second.groups)
    return Map("transposed", second.rows, first.cols, axis, dense.window, groups, recipe)
