"""The roofs of a machine: the most multiply-accumulates and bytes in a second that anything was seen to reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from convfold.cost.device.clock import Clock
from convfold.cost.device.place import last_level_cache

__all__ = ["Roofs", "measure_roofs"]

_CACHED = 1 << 20  # bytes of each array of the small triad: three lie in a cache
_MOST = 1 << 29  # bytes of each array of the large one
_SIDES = {"cpu": (768, 1280), "cuda": (4096, 8192)}
# Channels and size of dense 3x3 convolutions: with some libraries they outrun products of matrices.
_CONVOLUTIONS = {"cpu": ((1, 128, 40), (1, 256, 28)), "cuda": ((32, 256, 56), (64, 512, 28))}


@dataclass(frozen=True)
class Roofs:
    """FLOP/s, and bytes/s from memory and from cache; `seen` has each measurement, in FLOP/s or bytes/s.

    `call` are the seconds of an operator that has nothing to do.
    """

    peak: float
    bandwidth: float
    cached: float
    call: float
    seen: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def measure_roofs(clock: Clock, rounds: int, least: float) -> Roofs:
    """Time products of matrices and dense convolutions, copies and triads, and an addition of two numbers."""
    device = clock.device
    size = min(max(4 * last_level_cache(), 1 << 26), _MOST)
    work: dict[str, tuple[float, Callable[[], object]]] = {}
    for side in _SIDES[device.type]:
        a, b = torch.rand(side, side, device=device), torch.rand(side, side, device=device)
        work[f"matmul {side}"] = (2.0 * side**3, partial(torch.matmul, a, b))
    for batch, channels, positions in _CONVOLUTIONS[device.type]:
        x = torch.rand(batch, channels, positions, positions, device=device)
        w = torch.rand(channels, channels, 3, 3, device=device)
        name = f"dense 3x3 {batch}x{channels}x{positions}x{positions}"
        work[name] = (18.0 * channels * x.numel(), partial(F.conv2d, x, w, padding=1))
    for where, count in (("memory", size), ("cache", _CACHED)):
        one, two, three = (torch.rand(count // 4, device=device) for _ in range(3))
        work[f"copy {where}"] = (2.0 * count, partial(one.copy_, two))
        work[f"triad {where}"] = (3.0 * count, partial(torch.add, two, three, alpha=0.5, out=one))
    tiny = torch.rand(1, device=device)
    work["a call"] = (1.0, partial(torch.add, tiny, tiny))
    with torch.no_grad():
        taken = clock.medians([run for _, run in work.values()], rounds, least)
    seen = {name: amount / seconds for (name, (amount, _)), seconds in zip(work.items(), taken, strict=True)}
    call = 1 / seen.pop("a call")
    return Roofs(
        max(rate for name, rate in seen.items() if name.startswith(("matmul", "dense"))),
        max(rate for name, rate in seen.items() if name.endswith("memory")),
        max(rate for name, rate in seen.items() if name.endswith("cache")),
        call,
        seen,
    )
