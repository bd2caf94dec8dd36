"""Seconds that are measured once on the user's own machine, and remembered between runs."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convfold.errors import FileProblem
from convfold.files import write_text

__all__ = ["LEAST", "ROUNDS", "Timings", "default_cache", "median_seconds"]

ROUNDS, LEAST = 7, 2e-4  # rounds of a measurement, and the seconds that one should last


def default_cache() -> Path:
    """Where timings are kept between runs: ``$XDG_CACHE_HOME/convfold/latency.json``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "convfold" / "latency.json"


class Timings:
    """Seconds by key, rounded to two digits, so that noise decides nothing, and kept in the file `cache`."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = default_cache() if cache is None else cache
        self._times: dict[str, float] = self._read()
        self._new = 0

    def _read(self) -> dict[str, float]:
        try:
            found = {key: float(value) for key, value in json.loads(self._cache.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
        return {key: seconds for key, seconds in found.items() if 0 <= seconds < math.inf}

    def taken(self, key: str, measure: Callable[[], float]) -> float:
        """The seconds of a key: as they are remembered, or else as `measure` gives them."""
        if key not in self._times:
            self._times[key] = float(f"{measure():.1e}")
            self._new += 1
        return self._times[key]

    def save(self) -> None:
        """Write the times, if there are new ones; a cache that cannot be written is not needed."""
        if self._new:
            try:
                self._cache.parent.mkdir(parents=True, exist_ok=True)
                write_text(self._cache, json.dumps({**self._read(), **self._times}, indent=0, sort_keys=True))
            except (OSError, FileProblem):
                return
            self._new = 0


def median_seconds(
    run: Callable[[], Any], rounds: int = ROUNDS, least: float = LEAST, settle: Callable[[], None] = lambda: None
) -> float:
    """Seconds of one call: the median over rounds that each last long enough to be read off a clock.

    `settle` waits for what calls have begun, before and after a round.
    """

    def round_of(times: int) -> float:
        settle()
        start = time.perf_counter()
        for _ in range(times):
            run()
        settle()
        return (time.perf_counter() - start) / times

    run()
    times = max(1, math.ceil(least / max(round_of(1), 1e-7)))
    return statistics.median(round_of(times) for _ in range(rounds))
