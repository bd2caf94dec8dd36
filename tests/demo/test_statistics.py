"""Paired comparisons against scipy's own, and Holm's correction against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convfold.errors import InvalidArgument
from convfold.studies.statistics import adjusted, compare, holm, spread

stats = pytest.importorskip("scipy.stats")

A = [1.9, 2.4, 2.2, 3.1, 2.8, 1.7]
B = [1.6, 2.5, 1.8, 2.7, 2.2, 1.5]


def test_the_paired_test_is_scipys() -> None:
    found = compare(A, B)
    expected = stats.ttest_rel(A, B)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.mean == pytest.approx(0.3)
    assert found.half_width == pytest.approx((interval.high - interval.low) / 2)


def test_swapping_the_sides_turns_the_sign_only() -> None:
    forth, back = compare(A, B), compare(B, A)
    assert back.mean == -forth.mean
    assert back.p == pytest.approx(forth.p)


def test_the_spread_of_a_mean_is_scipys() -> None:
    found = spread(A)
    interval = stats.ttest_1samp(A, 0).confidence_interval(0.95)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_one_seed_has_no_interval_and_no_test() -> None:
    found = compare([1.0], [2.0])
    assert (found.mean, found.low, found.p) == (-1.0, None, None)
    assert not found.significant
    assert spread([1.0]).low is None


def test_no_difference_at_all_is_no_evidence() -> None:
    found = adjusted({"a": compare([1.0, 2.0], [1.0, 2.0])})["a"]
    assert (found.p, found.low, found.high) == (1.0, 0.0, 0.0)
    assert not found.significant


def test_one_constant_difference_is_judged_by_its_sign_alone() -> None:
    found = compare([1.1, 2.1, 3.1], [1.0, 2.0, 3.0])
    assert found.p == 0.25
    assert found.low is None


def test_rows_of_different_length_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="2 and 1 values"):
        compare([1.0, 2.0], [1.0])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_never_lowers_keeps_the_order_and_stays_below_bonferroni(values: list[float]) -> None:
    found = holm(values)
    for before, after in zip(values, found, strict=True):
        assert before <= after <= min(1.0, len(values) * before) or after == pytest.approx(before)
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [found[i] for i in order] == sorted(found)


def test_the_correction_counts_only_what_was_tested() -> None:
    family = {"a": compare(A, B), "b": compare(A, [x + 0.1 * i for i, x in enumerate(A)]), "c": compare([1.0], [1.0])}
    found = adjusted(family)
    assert family["a"].p is not None
    assert min(found["a"].adjusted or 0, found["b"].adjusted or 0) == pytest.approx(
        2 * min(family["a"].p, family["b"].p or 0)
    )
    assert found["c"].adjusted is None
