"""The `rank` argument: an integer, a fraction of the full rank, a pair for tucker, or these by layer."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from convfold.errors import InvalidArgument, InvalidType
from convfold.transform.decompose.frame import Rank, Shape
from convfold.transform.decompose.method import Method

__all__ = ["AnyRank", "above", "as_rank", "check_rank", "rank_for", "ranks_by_layer"]

AnyRank = int | float | tuple[int, int] | Mapping[str, "int | float | tuple[int, int]"]


def as_rank(rank: Any) -> Any:
    """The same with lists as pairs: JSON has no tuples."""
    if isinstance(rank, Mapping):
        return {key: as_rank(value) for key, value in rank.items()}
    return tuple(rank) if isinstance(rank, list) else rank


def check_rank(rank: object, method: Method, where: str = "rank") -> None:
    """Raises InvalidType or InvalidArgument for what is no rank of any layer."""
    single: Sequence[object] = rank if isinstance(rank, tuple) else (rank,)
    if isinstance(rank, tuple) and (method.name != "tucker" or len(rank) != 2):
        raise InvalidArgument(
            f"{method.name} takes no such rank", where=where, got=rank,
            expected="a pair (r_out, r_in)" if method.name == "tucker" else "one number",
        )  # fmt: skip
    for value in single:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidType(
                "this is no rank", where=where, got=type(value).__name__,
                expected="an integer, a fraction of the full rank, or a dict of these by layer",
            )  # fmt: skip
        if isinstance(value, float) and (isinstance(rank, tuple) or not 0 < value <= 1):
            raise InvalidArgument(
                "a fraction of the full rank lies above 0 and at most at 1", where=where, got=rank,
                hint="A number of channels is an integer.",
            )  # fmt: skip
        if isinstance(value, int) and value < 1:
            raise InvalidArgument("the least rank is 1", where=where, got=rank)


def ranks_by_layer(ranks: Mapping[str, object], layers: Sequence[str], method: Method) -> dict[str, object]:
    """The rank of each layer that a key names, by path or by glob; the first key that fits.

    Raises InvalidArgument for a key that names no layer.
    """
    for key, value in ranks.items():
        check_rank(value, method, f"rank of {key!r}")
        if not any(fnmatchcase(path, str(key)) for path in layers):
            near = difflib.get_close_matches(str(key), layers, 3, 0.3) or list(layers)[:3]
            raise InvalidArgument(
                "rank names a layer that is not there", got=repr(key), hint=f"Layers are named like {', '.join(near)}."
            )
    found = {path: next((r for key, r in ranks.items() if fnmatchcase(path, str(key))), None) for path in layers}
    return {path: rank for path, rank in found.items() if rank is not None}


def rank_for(rank: object, shape: Shape, method: Method) -> Rank:
    """The rank that is meant for a layer of this shape; a fraction counts from its full rank, rounded up."""
    full = method.full(shape)
    if isinstance(rank, float):
        if isinstance(full, tuple):
            return _share(rank, full[0]), _share(rank, full[1])
        return _share(rank, full)
    assert isinstance(rank, (int, tuple))
    return rank


def _share(fraction: float, full: int) -> int:
    return min(full, max(1, -int(-fraction * full // 1)))


def above(rank: Rank, shape: Shape, method: Method) -> str:
    """Why this rank is too much, or an empty string; for tucker an integer may be above one of the two."""
    full = method.full(shape)
    if isinstance(full, tuple):
        most = max(full)
        over = any(r > f for r, f in zip(rank, full, strict=True)) if isinstance(rank, tuple) else rank > most
        said = f"{full[0]} out, {full[1]} in"
    else:
        assert isinstance(rank, int)
        over, said = rank > full, str(full)
    return f"rank {rank} is above the full rank, {said}" if over else ""
