"""Which groups result when grouped convolutions are chained or added."""

from __future__ import annotations

from math import gcd, isqrt

from convfold.errors import InvalidArgument

__all__ = ["chain_groups", "check_groups", "common_groups", "kept_groups", "legal_groups", "nearest_groups"]


def legal_groups(*channels: int) -> tuple[int, ...]:
    """Every number of groups that divides all these channels, smallest first: the divisors of their gcd.

    Raises InvalidArgument without channels, or where one is below 1.

    >>> legal_groups(12, 18)
    (1, 2, 3, 6)
    """
    if not channels or min(channels) < 1:
        raise InvalidArgument("groups divide at least one channel", got=f"channels {channels}", expected="1 or more")
    common = gcd(*channels)
    small = [g for g in range(1, isqrt(common) + 1) if common % g == 0]
    return tuple(sorted({*small, *(common // g for g in small)}))


def nearest_groups(groups: int, *channels: int) -> tuple[int, ...]:
    """The legal numbers of groups next to `groups`: itself where it divides all channels, else those on either side.

    One number where `groups` lies beyond the smallest or the largest. Raises InvalidArgument as `legal_groups`.

    >>> nearest_groups(4, 8, 12), nearest_groups(3, 8, 12), nearest_groups(3, 3, 32), nearest_groups(5, 16, 16)
    ((4,), (2, 4), (1,), (4, 8))
    """
    legal = legal_groups(*channels)
    if groups in legal:
        return (groups,)
    below, above = [g for g in legal if g < groups], [g for g in legal if g > groups]
    return (*below[-1:], *above[:1])


def check_groups(in_channels: int, out_channels: int, groups: int) -> None:
    """Raise InvalidArgument, offering the nearest legal numbers, when groups do not divide the channels."""
    if groups >= 1 and in_channels % groups == 0 and out_channels % groups == 0:
        return
    nearest = nearest_groups(groups, in_channels, out_channels)
    values = "value is" if len(nearest) == 1 else "values are"
    raise InvalidArgument(
        "groups must divide in_channels and out_channels",
        got=f"groups={groups} with {in_channels} -> {out_channels} channels",
        expected=f"one of {list(legal_groups(in_channels, out_channels))}",
        hint=f"The nearest legal {values} {' and '.join(map(str, nearest))}.",
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
