"""Some of the output channels of a map, by shape alone: so that a large kernel need not be made at once."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from convfold.graph.maps import After, Block, Columns, Given, Map, Plus, Rows, Seen, refused, select

__all__ = ["rows_of"]


def rows_of(m: Map, start: int, stop: int) -> Map:
    """``y[start:stop]`` of ``y = m(x)``; every recipe that it is made of is cut down too.

    Raises NotFoldable for maps in groups, whose rows do not read all channels, and those that have no rows.
    """
    if m.kind == "select":
        assert m.index is not None
        return select(m.index[start:stop], m.cols, m.axis or 0)
    if m.kind == "diagonal":
        # As a factor of rows that are there already, it is cut itself.
        return replace(m, rows=stop - start, cols=stop - start, recipe=_cut(m, start, stop))
    if not m.dense or m.groups != 1:
        raise refused("its rows do not stand for themselves")
    return replace(m, rows=stop - start, recipe=_cut(m, start, stop))


def _cut(m: Map, start: int, stop: int) -> Given | After | Plus | Columns | Rows | Block | Seen:
    recipe = m.recipe
    if isinstance(recipe, Given):
        return Given(_key(recipe.key, start, stop, columns=m.kind == "transposed"))
    if isinstance(recipe, After):
        return _after(recipe, start, stop)
    if isinstance(recipe, Plus):
        return Plus(tuple(_summand(part, m, start, stop) for part in recipe.maps))
    if isinstance(recipe, Columns):
        return Columns(tuple(_summand(part, m, start, stop) for part in recipe.maps), recipe.widths)
    if isinstance(recipe, Rows):
        return Rows(_stacked(recipe.maps, start, stop))
    if isinstance(recipe, Block) and not recipe.diagonal:
        return replace(recipe, whole=rows_of(recipe.whole, start, stop))
    if isinstance(recipe, Seen) and recipe.inner.rows == m.rows:
        return Seen(rows_of(recipe.inner, start, stop))
    raise refused("its rows are not told apart")


def _after(recipe: After, start: int, stop: int) -> After:
    first, second = recipe.first, recipe.second
    if second.kind in ("identity", "scalar"):
        return After(rows_of(first, start, stop), second)
    if second.kind == "diagonal" and first.kind not in ("identity", "scalar"):
        return After(rows_of(first, start, stop), rows_of(second, start, stop))
    return After(first, rows_of(second, start, stop))


def _summand(part: Map, whole: Map, start: int, stop: int) -> Map:
    """The rows of a map that may be one number for all channels: such a one has ones where its channels are."""
    if part.kind == "diagonal" or (part.kind in ("scalar", "identity") and part.recipe is not None):
        raise refused("a scale is no kernel until its channels are known")
    if part.kind == "identity":
        return select(tuple(range(start, stop)), part.cols or whole.cols, whole.axis or 0)
    return rows_of(part, start, stop)


def _stacked(maps: tuple[Map, ...], start: int, stop: int) -> tuple[Map, ...]:
    found, low = [], 0
    for part in maps:
        one, two = max(start - low, 0), min(stop - low, part.rows)
        if one < two:
            found.append(part if (one, two) == (0, part.rows) else rows_of(part, one, two))
        low += part.rows
    return tuple(found)


def _key(key: Hashable, start: int, stop: int, columns: bool) -> Hashable:
    """The key of rows, or columns, of a constant, told of what it is derived from: that need not be made either."""
    if isinstance(key, tuple) and key[0] == "transposed":
        return ("transposed", _key(key[1], start, stop, columns=not columns))
    if isinstance(key, tuple) and key[0] == "times":
        return ("times", _key(key[1], start, stop, columns), key[2])
    return ("columns" if columns else "rows", key, start, stop)
