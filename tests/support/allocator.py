"""What torch's allocator reports while a function runs: the oracle of memory counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

__all__ = ["allocator_peak"]


def allocator_peak(call: Callable[[], Any], device: str = "cpu") -> int:
    """The most bytes at once that the allocator of `device` gave out to `call`, above what was there before.

    On CUDA the allocator keeps count itself. On the CPU the profiler records each allocation and each release
    that torch's allocator makes, with its bytes; the running sum of these is what is held.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
