"""The law of a kind of operator, ``seconds = overhead * calls + bytes * byte + MACs * mac``, and how it is fitted."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from convfold.cost.device.work import Work

__all__ = ["ALL", "COUNTED", "Law", "Spread", "fit", "off_by", "proportional"]

# Names under which errors over many kinds stand: over all, and over those that have multiply-accumulates.
ALL, COUNTED = "all", "convolutions, linear"

_ITERATIONS = 40
_QUIET = 0.05  # of a logarithm: smaller differences are noise, and all weigh the same


@dataclass(frozen=True)
class Law:
    """Seconds of a call, of a byte moved and of a multiply-accumulate; none is negative."""

    overhead: float
    byte: float
    mac: float

    def seconds(self, work: Work) -> float:
        """What these calls take together."""
        return self.overhead * work.calls + self.byte * work.bytes + self.mac * work.macs

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of the factors by which `count` predictions are off, and the ninth decile."""

    low: float
    median: float
    high: float
    most: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def off_by(predicted: Sequence[float], measured: Sequence[float]) -> Spread:
    """How far predictions lie from measurements: of ``max(p/m, m/p)``, two at least."""
    factors = [max(p / m, m / p) for p, m in zip(predicted, measured, strict=True)]
    tenths = statistics.quantiles(factors, n=20, method="inclusive")
    return Spread(tenths[4], tenths[9], tenths[14], tenths[17], len(factors))


def proportional(works: Sequence[Work], seconds: Sequence[float]) -> Law:
    """``seconds = a * MACs``, of bytes where nothing is multiplied: the median a."""
    if any(work.macs for work in works):
        return Law(0.0, 0.0, statistics.median(s / w.macs for w, s in zip(works, seconds, strict=True)))
    return Law(0.0, statistics.median(s / w.bytes for w, s in zip(works, seconds, strict=True)), 0.0)


def fit(works: Sequence[Work], seconds: Sequence[float]) -> Law:
    """The law of least absolute logarithmic error, ``sum |log(p/m)|``, among those without negative terms.

    By iteratively reweighted least squares: ``(p - m)^2 / (p m)`` is ``log(p/m)^2`` to third order, and over
    ``|log(p/m)|`` its absolute value, so that a few shapes that a library treats badly do not move the law.
    """
    features = torch.tensor([[work.calls, work.bytes, work.macs] for work in works], dtype=torch.float64)
    measured = torch.tensor(seconds, dtype=torch.float64)
    scale = features.amax(0).clamp(min=1)
    columns, predicted = features / scale, measured
    found = torch.zeros(3, dtype=torch.float64)
    for _ in range(_ITERATIONS):
        error = (predicted / measured).log().abs().clamp(min=_QUIET)
        weight = (predicted * measured * error).rsqrt()
        found = _nonnegative(columns * weight[:, None], measured * weight)
        predicted = (columns @ found).clamp(min=1e-3 * measured.min())
    return Law(*(found / scale).tolist())


def _nonnegative(columns: Tensor, target: Tensor) -> Tensor:
    """Least squares without negative coefficients: of all subsets of the columns the best that has none."""
    width = columns.shape[1]
    best, least = torch.zeros(width, dtype=columns.dtype), float(target.square().sum())
    usable = [place for place in range(width) if bool(columns[:, place].any())]
    for size in range(1, len(usable) + 1):
        for chosen in map(list, combinations(usable, size)):
            # By singular values: columns may be multiples of one another, as bytes and MACs of one kernel are.
            found = torch.linalg.lstsq(columns[:, chosen], target[:, None], driver="gelsd").solution[:, 0]
            rest = float((columns[:, chosen] @ found - target).square().sum())
            if bool((found >= 0).all()) and rest < least:
                best = torch.zeros(width, dtype=columns.dtype)
                best[chosen], least = found, rest
    return best
