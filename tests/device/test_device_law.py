"""The law: what it was made of comes back, from clean timings and from noisy ones, and it never goes below zero."""

import math

import pytest

from convfold.cost.device.cases import cases
from convfold.cost.device.law import ALL, COUNTED, Law, fit, off_by, proportional
from convfold.cost.device.measure import errors_of, laws_of
from convfold.cost.device.work import CONVOLUTIONS, KINDS, Work
from device.machines import LAWS, timings


def test_coefficients_come_back_from_clean_timings():
    found = laws_of(timings(30, held_out=False))
    for kind in KINDS:
        want, got = LAWS[kind], found[kind]
        # Least squares of a consistent system: digits are lost to its condition alone.
        assert got.overhead == pytest.approx(want.overhead, rel=1e-6)
        assert got.byte == pytest.approx(want.byte, rel=1e-6)
        assert got.mac == pytest.approx(want.mac, rel=1e-6)


def test_noise_moves_predictions_less_than_itself():
    noise = 0.3
    found = laws_of(timings(30, held_out=False, noise=noise))
    for clean in timings(20, held_out=True):
        predicted = found[clean.case.work.kind].seconds(clean.case.work)
        assert 1 / (1 + noise) < predicted / clean.seconds < 1 + noise


def test_a_few_shapes_that_are_far_off_do_not_move_the_law():
    timed = [t for t in timings(30, held_out=False) if t.case.kind == "dense"]
    works, seconds = [t.case.work for t in timed], [t.seconds for t in timed]
    for place in (3, 14, 22):
        seconds[place] *= 20
    law = fit(works, seconds)
    # Least squares of the logarithms would be off by about a third all over: 20 ** (3 / 30) = 1.35.
    assert [law.seconds(work) for work in works] == pytest.approx([t.seconds for t in timed], rel=0.02)


def test_no_term_is_negative_and_collinear_terms_are_no_trouble():
    # Falling with bytes at a fixed number of MACs: least squares alone would give a negative byte.
    works = [Work("dense", 1000, size) for size in (10, 20, 30)]
    law = fit(works, [3e-6, 2e-6, 1e-6])
    assert min(law.overhead, law.byte, law.mac) >= 0
    # Bytes a multiple of MACs, as of one kernel over maps of many sizes.
    works = [Work("depthwise", 9 * size, 8 * size) for size in (10, 100, 1000)]
    law = fit(works, [1e-6 + 17e-9 * work.bytes for work in works])
    assert [law.seconds(w) for w in works] == pytest.approx([1e-6 + 17e-9 * w.bytes for w in works], rel=1e-6)
    assert min(law.overhead, law.byte, law.mac) >= 0


def test_work_is_linear_in_calls():
    law = Law(1e-6, 2e-9, 3e-12)
    once, thrice = Work("dense", 100, 1000), Work("dense", 300, 3000, 3)
    assert law.seconds(thrice) == pytest.approx(3 * law.seconds(once), rel=1e-15)


def test_the_miss_is_a_factor_either_way():
    spread = off_by([2.0, 1.0, 1.0, 4.0, 1.0], [1.0, 1.0, 4.0, 2.0, 1.5])
    assert (spread.low, spread.median, spread.high, spread.count) == (1.5, 2.0, 2.0, 5)
    assert spread.most == pytest.approx(3.2)
    assert str(spread) == "2.00 (1.50-2.00)"


def test_held_out_predictions_are_exact_where_the_law_is_the_truth():
    timed = [*timings(30, held_out=False), *timings(20, held_out=True)]
    laws = laws_of(timed)
    by_law, by_macs = errors_of(timed, laws)
    assert set(by_law) == {*KINDS, COUNTED, ALL} == {*by_macs, ALL}
    assert all(error.most == pytest.approx(1, rel=1e-6) for error in by_law.values())
    assert by_law[ALL].count == 20 * len(KINDS)
    assert by_macs[COUNTED].count == by_law[COUNTED].count == 20 * (len(CONVOLUTIONS) + 1)
    assert all(by_macs[kind].median > 1.05 for kind in CONVOLUTIONS)


def test_the_rate_of_macs_alone_is_the_median_one():
    works = [Work("dense", macs, 1) for macs in (10, 100, 1000)]
    assert proportional(works, [1.0, 20.0, 300.0]) == Law(0.0, 0.0, 0.2)
    assert proportional([Work("norm", 0, 8), Work("norm", 0, 16)], [1.0, 2.0]) == Law(0.0, 0.125, 0.0)


def test_held_out_shapes_are_none_that_are_fitted_to():
    fitted, held = cases(30, held_out=False), cases(20, held_out=True)
    assert len(fitted) == 30 * len(KINDS)
    assert len(held) == 20 * len(KINDS)
    assert cases(30, held_out=False) == fitted
    convolved = {(c.read, c.weight) for c in fitted if c.kind in CONVOLUTIONS}
    assert not convolved & {(c.read, c.weight) for c in held}
    for kind in CONVOLUTIONS:
        macs = [math.log10(c.work.macs) for c in fitted if c.kind == kind]
        assert max(macs) - min(macs) > 2
