"""Groups and multiply-accumulates."""

from __future__ import annotations

from itertools import product

import pytest

from convfold.errors import InvalidArgument
from convfold.geometry import Axis, chain_groups, common_groups, conv_macs
from convfold.geometry.groups import check_groups


def partition(channels, groups):
    """Which pairs of channels may be connected."""
    return {(a, b) for a, b in product(range(channels), repeat=2) if a * groups // channels == b * groups // channels}


@pytest.mark.parametrize(("first", "second"), [(4, 6), (1, 12), (12, 1), (3, 4), (12, 12), (6, 2)])
def test_chained_groups_are_the_finest_that_cover_both(first, second):
    channels = 12
    one, two = partition(channels, first), partition(channels, second)
    reached = {(a, c) for a, b in one for b2, c in two if b == b2}
    legal = [g for g in range(1, 13) if 12 % g == 0 and reached <= partition(channels, g)]
    assert chain_groups(first, second) == max(legal)


@pytest.mark.parametrize("groups", [(4, 6), (12,), (2, 4, 12), (3, 4)])
def test_the_groups_of_a_sum_cover_every_branch(groups):
    union = set().union(*(partition(12, g) for g in groups))
    legal = [g for g in range(1, 13) if 12 % g == 0 and union <= partition(12, g)]
    assert common_groups(groups) == max(legal)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(6, 4, 1), (6, 4, 2), (4, 8, 4)])
def test_macs_are_those_of_a_loop(inputs, outputs, groups):
    window, size = (Axis(3, 2, 1, 1, 0), Axis(2, 1, 2, 0, 1)), (7, 6)
    count = 0
    rows = [i for i in range(20) if 2 * i - 1 + 2 <= 6]
    columns = [i for i in range(20) if i + 2 <= 6]
    for _ in product(rows, columns, range(outputs), range(inputs // groups), range(3), range(2)):
        count += 1
    assert conv_macs(window, inputs, outputs, groups, size) == count


def test_check_groups_names_the_nearest_legal_values():
    check_groups(12, 8, 4)
    with pytest.raises(InvalidArgument) as caught:
        check_groups(12, 8, 3)
    assert str(caught.value) == (
        "groups must divide in_channels and out_channels: got groups=3 with 12 -> 8 channels, "
        "expected one of [1, 2, 4]. The nearest legal values are 2 and 4."
    )
    for groups in (0, -1, 5):
        with pytest.raises(InvalidArgument):
            check_groups(12, 8, groups)
