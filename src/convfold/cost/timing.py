"""What a forward pass costs in time: what is compared runs in turns in one process, on its CPU clock.

Times are CPU seconds of this process (``time.process_time``), so other processes cost noise but not time.
A ratio is taken within one round, between measurements milliseconds apart; medians and quartiles are over
rounds.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

__all__ = ["Ratio", "Work", "one_thread", "paired", "ratio"]

Work = Callable[[], object]


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one thread: CPU time then says what work costs, not how it is spread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of a ratio over rounds."""

    median: float
    low: float
    high: float
    rounds: int

    def holds(self, value: float) -> bool:
        """Whether `value` lies between the quartiles."""
        return self.low <= value <= self.high

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


def ratio(values: Sequence[float], reference: Sequence[float]) -> Ratio:
    """The ratio of two series of times of the same rounds, two at least."""
    ratios = [a / b for a, b in zip(values, reference, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(median, low, high, len(ratios))


def paired(
    twins: Mapping[str, Sequence[Work]], rounds: int, least: float = 0.01, warm: int = 2
) -> dict[str, list[float]]:
    """CPU seconds of one call of each candidate, one value per round.

    A candidate is a sequence of twins, equal work on memory of its own; rounds go through them, so that
    where an allocation happens to lie is noise and not a difference. In each round every candidate runs
    once, in an order drawn anew, repeated for at least `least` seconds in all; `warm` calls come first.
    """
    order = random.Random(0)
    counts = {name: _calls(works, least, warm) for name, works in twins.items()}
    taken: dict[str, list[float]] = {name: [] for name in twins}
    for number in range(rounds):
        for name in order.sample(list(twins), len(twins)):
            work = twins[name][number % len(twins[name])]
            taken[name].append(_time(work, counts[name]))
    return taken


def _calls(works: Sequence[Work], least: float, warm: int) -> int:
    for work in works:
        for _ in range(warm):
            work()
    return max(1, round(least / max(_time(works[0], 1), 1e-6)))


def _time(work: Work, calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls
