"""How large a paired effect is, in deviations of the differences, with its exact confidence interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from convfold.errors import InvalidArgument
from convfold.studies.statistics import LEVEL

__all__ = ["Effect", "cohens_dz"]


@dataclass(frozen=True)
class Effect:
    """``d_z = mean(a - b) / sd(a - b)`` with its 95% interval; None where differences do not vary or are too few."""

    value: float | None
    low: float | None
    high: float | None


def cohens_dz(a: Sequence[float], b: Sequence[float]) -> Effect:
    """Cohen's d_z of paired values: the mean difference over the deviation of the differences (n - 1).

    ``d_z sqrt(n)`` is Student's t, which follows a noncentral t distribution with n - 1 degrees of freedom; the
    interval holds every noncentrality under which t is not in the outer 2.5% (Cumming and Finch, Educational and
    Psychological Measurement 61, 2001). Needs scipy. Raises InvalidArgument for rows of different lengths.
    """
    from scipy.stats import nct  # noqa: PLC0415

    if len(a) != len(b) or not a:
        raise InvalidArgument("a paired effect needs two rows of one length", got=f"{len(a)} and {len(b)} values")
    differences = [x - y for x, y in zip(a, b, strict=True)]
    count = len(differences)
    mean = math.fsum(differences) / count
    spread = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / max(count - 1, 1))
    # As in `statistics.compare`: a spread below rounding is no spread.
    if count < 2 or spread <= 1e-12 * max(map(abs, differences)):
        return Effect(None, None, None)
    value = mean / spread
    t, root = value * math.sqrt(count), math.sqrt(count)
    tail = LEVEL / 2
    high = _falling(lambda centre: float(nct.cdf(t, count - 1, centre)), tail, t)
    low = _falling(lambda centre: float(nct.cdf(t, count - 1, centre)), 1 - tail, t)
    return Effect(value, low / root, high / root)


def _falling(function: Callable[[float], float], level: float, near: float) -> float:
    """Where a falling function takes `level`: bracketed around `near`, then halved."""
    reach = 1.0
    while function(near - reach) < level or function(near + reach) > level:
        reach *= 2
        if reach > 1e6:
            raise InvalidArgument("the interval of an effect is not found", got=f"t = {near:g}")
    low, high = near - reach, near + reach
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) > level else (low, middle)
    return (low + high) / 2
