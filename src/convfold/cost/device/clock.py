"""Seconds of calls that take turns: on the CPU clock of this process where one thread does the work."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Clock"]


@dataclass(frozen=True)
class Clock:
    """The clock for a device: of one thread on the CPU ``time.process_time``, which other processes do not move."""

    device: torch.device
    threads: int

    @property
    def name(self) -> str:
        """Which clock it is, for the record."""
        alone = self.device.type == "cpu" and self.threads == 1
        return "time.process_time" if alone else "time.perf_counter"

    def medians(self, calls: Sequence[Callable[[], object]], rounds: int, least: float) -> list[float]:
        """Seconds of one of each of the `calls`: medians over rounds, in each of which all run, in an order drawn anew.

        In a round a call is repeated for `least` seconds at least. Two calls of each come before.
        """
        order = random.Random(0)
        taken: list[list[float]] = [[] for _ in calls]
        for call in calls:
            call()
        repeats = [max(1, round(least / max(self._time(call, 1), 1e-6))) for call in calls]
        for _ in range(rounds):
            for place in order.sample(range(len(calls)), len(calls)):
                taken[place].append(self._time(calls[place], repeats[place]))
        return [statistics.median(times) for times in taken]

    def _time(self, call: Callable[[], object], repeats: int) -> float:
        now = getattr(time, self.name.removeprefix("time."))
        self._settle()
        start = now()
        for _ in range(repeats):
            call()
        self._settle()
        return float(now() - start) / repeats

    def _settle(self) -> None:
        # A GPU is given its work and left: what is queued belongs to the call that queued it.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
