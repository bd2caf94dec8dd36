"""Maps put together: added, split over a concatenation, side by side, or one under the other; by shape alone."""

from __future__ import annotations

from dataclasses import replace

from convfold.geometry import Window, common_groups, point, union
from convfold.graph.maps import (
    Block,
    Columns,
    Kind,
    Map,
    Plus,
    Rows,
    common_axis,
    refused,
    widened,
)

__all__ = ["block", "columns", "is_block_diagonal", "plus", "rows"]


def _as_conv(m: Map, dims: int, channels: int) -> tuple[Window, int]:
    """The window and groups of any map that reads `channels` channels, seen as a convolution."""
    if m.kind in ("identity", "scalar", "diagonal"):
        return point(dims), channels
    if m.kind == "select":
        return point(dims), 1
    return widened(m.window, dims), m.groups


def plus(maps: tuple[Map, ...]) -> Map:
    """``sum_j maps[j](x)`` on the union of their windows. Raises NotFoldable where strides or sizes differ."""
    if len(maps) == 1:
        return maps[0]
    kinds = {m.kind for m in maps}
    axis, recipe = common_axis(*maps), Plus(maps)
    if kinds <= {"identity", "scalar"}:
        factors = [1.0 if m.kind == "identity" else m.factor for m in maps]
        known = all(f is not None for f in factors)
        return Map("scalar", recipe=recipe, factor=sum(factors) if known else None)  # type: ignore[arg-type]
    shaped = next(m for m in maps if m.rows)
    if any((m.rows, m.cols) != (shaped.rows, shaped.cols) for m in maps if m.rows):
        raise refused("the branches differ in channels")
    if kinds <= {"identity", "scalar", "diagonal"}:
        return Map("diagonal", shaped.rows, shaped.cols, axis, recipe=recipe)
    if "transposed" in kinds and kinds != {"transposed"}:
        raise refused("a transposed convolution and another map do not add to one")
    if shaped.rows != shaped.cols and kinds & {"identity", "scalar", "diagonal"}:
        raise refused("the branches differ in channels")
    dims = max(len(m.window) for m in maps)
    views = [_as_conv(m, dims, shaped.cols) for m in maps]
    window, _ = union(tuple(view[0] for view in views)) if dims else ((), ())
    kind: Kind = "transposed" if kinds == {"transposed"} else "conv"
    groups = common_groups(tuple(view[1] for view in views))
    return Map(kind, shaped.rows, shaped.cols, axis, window, groups, recipe)


def block(m: Map, start: int, stop: int) -> Map:
    """The part of a map over a concatenation that reads channels `start` to `stop`.

    A dense map keeps all its rows; a map that is block-diagonal there keeps the rows of its blocks. Raises
    NotFoldable where groups straddle the piece.
    """
    width = stop - start
    if m.kind in ("identity", "scalar"):
        return m
    if m.kind == "diagonal":
        return replace(m, rows=width, cols=width, recipe=Block(m, start, stop, True))
    if m.kind == "pool" or (m.kind == "conv" and m.groups > 1):
        wide = m.cols // m.groups
        if start % wide or stop % wide:
            raise refused("a piece of the concatenation ends inside a group")
        groups = width // wide
        high = m.rows // m.groups * groups
        return replace(m, rows=high, cols=width, groups=groups, recipe=Block(m, start, stop, True))
    if m.kind == "conv":
        return replace(m, cols=width, recipe=Block(m, start, stop, False))
    raise refused(f"a {m.kind} map over a concatenation has no columns to split")


def is_block_diagonal(m: Map) -> bool:
    """Whether `block` keeps only the rows of a piece, so that the map of a concatenation is a concatenation."""
    return m.kind in ("identity", "scalar", "diagonal", "pool") or (m.kind == "conv" and m.groups > 1)


def columns(maps: tuple[Map, ...], widths: tuple[int, ...]) -> Map:
    """One convolution over a concatenation: ``[K_1 | K_2 | ...]``. Raises NotFoldable unless all are alike.

    `widths` are the channels of the pieces, which an identity among the maps does not know itself.
    """
    kinds = {m.kind for m in maps}
    axis, recipe = common_axis(*maps), Columns(maps, widths)
    dims = max(len(m.window) for m in maps)
    if "transposed" in kinds or "pool" in kinds or not any(m.kind == "conv" for m in maps):
        raise refused("only convolutions share one over a concatenation")
    windows = {_as_conv(m, dims, w)[0] for m, w in zip(maps, widths, strict=True)}
    heights = {m.rows or w for m, w in zip(maps, widths, strict=True)}
    if len(windows) > 1 or len(heights) > 1:
        raise refused("the pieces' kernels differ in window or rows")
    return Map("conv", heights.pop(), sum(widths), axis, windows.pop(), 1, recipe)


def rows(maps: tuple[Map, ...]) -> Map:
    """The concatenation of maps of one input: kernels one under the other, on the union of their windows."""
    axis, recipe = common_axis(*maps), Rows(maps)
    dims = {len(m.window) for m in maps}
    if {m.kind for m in maps} != {"conv"} or len(dims) > 1 or len({m.cols for m in maps}) > 1:
        raise refused("only convolutions of one input stand under each other")
    if any(m.groups > 1 for m in maps):
        raise refused("grouped convolutions are not put under each other")
    window, _ = union(tuple(m.window for m in maps))
    return Map("conv", sum(m.rows for m in maps), maps[0].cols, axis, window, 1, recipe)
