"""Which groups result when grouped convolutions are chained or added."""

from __future__ import annotations

from math import gcd

from convfold.errors import InvalidArgument

__all__ = ["chain_groups", "check_groups", "common_groups", "kept_groups"]


def check_groups(in_channels: int, out_channels: int, groups: int) -> None:
    """Raise InvalidArgument, offering the nearest legal numbers, when groups do not divide the channels."""
    if groups >= 1 and in_channels % groups == 0 and out_channels % groups == 0:
        return
    legal = [g for g in range(1, gcd(in_channels, out_channels) + 1) if gcd(in_channels, out_channels) % g == 0]
    nearest = sorted(sorted(legal, key=lambda g: abs(g - groups))[:2])
    raise InvalidArgument(
        "groups must divide in_channels and out_channels",
        got=f"groups={groups} with {in_channels} -> {out_channels} channels",
        expected=f"one of {legal}",
        hint=f"The nearest legal values are {' and '.join(map(str, nearest))}.",
    )


def chain_groups(first: int, second: int) -> int:
    """Groups of a chain: block-diagonal times block-diagonal is block-diagonal on the coarser partition.

    Both partitions are uniform partitions of the same middle channels, so the finest one that is coarser
    than both has gcd(g1, g2) blocks.

    >>> chain_groups(8, 12)
    4
    """
    return gcd(first, second)


def common_groups(groups: tuple[int, ...]) -> int:
    """Groups of a sum of branches: the finest partition that every branch respects, gcd of all.

    >>> common_groups((8, 4, 64))
    4
    """
    return gcd(*groups)


def kept_groups(groups: int, index: tuple[int, ...], inner: int, outer: int) -> int:
    """Groups of a selection chained with a convolution of `groups`: the most that the selection stays inside.

    Channel j of `outer` and its source ``index[j]`` of `inner` lie in the same group.

    >>> kept_groups(2, (1, 0, 3, 2), 4, 4), kept_groups(2, (2, 3, 0, 1), 4, 4), kept_groups(4, (1, 2, 5), 6, 3)
    (2, 1, 1)
    """
    for candidate in range(groups, 0, -1):
        if groups % candidate or inner % candidate or outer % candidate:
            continue
        wide, narrow = inner // candidate, outer // candidate
        if all(source // wide == j // narrow for j, source in enumerate(index)):
            return candidate
    return 1
