"""Cohen's d_z on constructed differences, and its interval against the distribution that defines it."""

from __future__ import annotations

import math
import random

import pytest

pytest.importorskip("scipy")

from scipy.stats import nct

from convfold.errors import InvalidArgument
from convfold.studies.effects import cohens_dz


def test_mean_over_deviation_of_the_differences() -> None:
    a, b = [3.0, 5.0, 4.0, 8.0], [1.0, 4.0, 1.0, 2.0]  # differences 2, 1, 3, 6: mean 3, variance 14/3
    found = cohens_dz(a, b)
    assert found.value == pytest.approx(3 / math.sqrt(14 / 3), rel=1e-14)
    turned = cohens_dz(b, a)
    assert turned.value == -found.value  # type: ignore[operator]
    assert turned.low == pytest.approx(-found.high, rel=1e-9)  # type: ignore[operator]


@pytest.mark.parametrize("shift", [0.0, 0.3, -2.0, 12.0])
def test_ends_leave_two_and_a_half_per_cent_outside(shift: float) -> None:
    draw = random.Random(7)
    a = [draw.gauss(shift, 1) for _ in range(30)]
    found = cohens_dz(a, [0.0] * 30)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    t = found.value * math.sqrt(30)
    assert nct.sf(t, 29, found.low * math.sqrt(30)) == pytest.approx(0.025, rel=1e-6)
    assert nct.cdf(t, 29, found.high * math.sqrt(30)) == pytest.approx(0.025, rel=1e-6)
    assert found.low < found.value < found.high


def test_no_spread_has_no_effect_size() -> None:
    assert cohens_dz([1.0, 2.0, 3.0], [0.0, 1.0, 2.0]).value is None
    assert cohens_dz([1.0], [0.0]).value is None


def test_rows_of_two_lengths_are_a_sentence() -> None:
    with pytest.raises(InvalidArgument, match=r"two rows of one length.*2 and 1 values"):
        cohens_dz([1.0, 2.0], [1.0])
