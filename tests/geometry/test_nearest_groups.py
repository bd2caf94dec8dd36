"""Groups that divide, and the nearest to those that do not."""

import pytest

from convfold.errors import InvalidArgument
from convfold.geometry import legal_groups, nearest_groups
from convfold.geometry.groups import check_groups


@pytest.mark.parametrize("a", range(1, 40))
def test_legal_groups_are_those_that_divide_all_channels(a: int) -> None:
    assert legal_groups(a) == tuple(g for g in range(1, a + 1) if a % g == 0)
    for b in (1, 12, 36, 37):
        both = legal_groups(a, b)
        assert both == tuple(g for g in range(1, min(a, b) + 1) if a % g == 0 and b % g == 0)
        for wanted in range(-1, 45):
            nearest = nearest_groups(wanted, a, b)
            if wanted in both:
                assert nearest == (wanted,)
            else:
                assert nearest == (*[g for g in both if g < wanted][-1:], *[g for g in both if g > wanted][:1])
                assert nearest


def test_a_large_number_of_channels_takes_no_time() -> None:
    assert len(legal_groups(2**40)) == 41
    assert nearest_groups(3, 10**12) == (2, 4)


@pytest.mark.parametrize("channels", [(), (0,), (4, -2)])
def test_without_channels_there_are_no_groups(channels: tuple[int, ...]) -> None:
    with pytest.raises(
        InvalidArgument, match=r"groups divide at least one channel: got channels \(.*\), expected 1 or"
    ):
        legal_groups(*channels)


def test_the_sentence_has_one_value_or_two() -> None:
    with pytest.raises(InvalidArgument, match=r"expected one of \[1, 2, 4\]\. The nearest legal values are 2 and 4\."):
        check_groups(12, 8, 3)
    with pytest.raises(InvalidArgument, match=r"got groups=3 with 3 -> 32 channels, .*The nearest legal value is 1\."):
        check_groups(3, 32, 3)
