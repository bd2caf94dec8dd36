"""Paired comparisons over seeds: an effect, its confidence interval, and p-values held together by Holm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from convfold.errors import InvalidArgument

__all__ = ["LEVEL", "Paired", "Spread", "adjusted", "compare", "holm", "spread"]

LEVEL = 0.05


@dataclass(frozen=True)
class Spread:
    """Mean of some values and the 95% confidence interval of that mean (None for fewer than two values)."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """The mean of ``a - b`` over pairs, with its 95% interval, and the p-value of "there is no difference".

    `adjusted` is that p-value after Holm's correction over a family of comparisons. Interval and p-values
    are None with fewer than two pairs. With pairs that all differ by the same amount other than zero Student's
    test does not exist; `p` is then the sign-flip test's, 2 ** (1 - pairs), and the interval is None.
    """

    pairs: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    adjusted: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the difference stands after the correction, at 5%."""
        return self.adjusted is not None and self.adjusted < LEVEL

    @property
    def half_width(self) -> float | None:
        """How far the interval reaches to either side of the mean."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


def _interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, standard error, and Student's 97.5% quantile times it."""
    from scipy.stats import t  # noqa: PLC0415

    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    error = math.sqrt(variance / count)
    return mean, error, float(t.ppf(1 - LEVEL / 2, count - 1)) * error


def spread(values: Sequence[float]) -> Spread:
    """Mean and confidence interval of `values`. Needs scipy for two or more."""
    if len(values) < 2:
        return Spread(values[0], None, None)
    mean, _, half = _interval(values)
    return Spread(mean, mean - half, mean + half)


def compare(a: Sequence[float], b: Sequence[float]) -> Paired:
    """Compare `a` with `b` pair by pair (the same seed in both) by Student's paired test. Needs scipy."""
    from scipy.stats import t  # noqa: PLC0415

    if len(a) != len(b) or not a:
        raise InvalidArgument("a paired comparison needs two rows of one length", got=f"{len(a)} and {len(b)} values")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    pairs = len(differences)
    if pairs < 2:
        return Paired(pairs, differences[0], None, None, None)
    mean, error, half = _interval(differences)
    # The values are counts over a total: a spread below rounding is no spread.
    if error <= 1e-12 * max(map(abs, differences), default=0.0):
        if mean == 0:
            return Paired(pairs, 0.0, 0.0, 0.0, 1.0)
        return Paired(pairs, mean, None, None, 2.0 ** (1 - pairs))
    p = 2 * float(t.sf(abs(mean) / error, pairs - 1))
    return Paired(pairs, mean, mean - half, mean + half, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    result = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        result[index] = running
    return result


def adjusted(family: dict[str, Paired]) -> dict[str, Paired]:
    """The same comparisons with `adjusted` filled in by Holm's correction over all that have a p-value."""
    tested = {name: pair.p for name, pair in family.items() if pair.p is not None}
    corrected = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {name: replace(pair, adjusted=corrected.get(name)) for name, pair in family.items()}
