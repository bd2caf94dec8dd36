"""Paired CPU times, as `convfold.cost.timing` takes them, in a process that does nothing but measure.

Plain against plain runs beside what is compared: the control is the same measurement of something equal to the
reference, and what it shows is noise.
"""

from __future__ import annotations

import ctypes
import platform
from importlib.metadata import version
from typing import Any

import torch

from convfold.cost.timing import Ratio, one_thread, paired, ratio

__all__ = ["Ratio", "circumstances", "one_thread", "paired", "ratio", "steady_allocator"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_KEPT = 1 << 30


def steady_allocator() -> str:
    """Make glibc keep freed memory, for the whole process; returns what was done, for the record.

    By default glibc takes large blocks from the kernel and gives them back, at limits that move with the
    program's history, so that whether an eager output is paid for in page faults depends on what ran before
    it. Only for a process that measures: it cannot be undone. MALLOC_MMAP_THRESHOLD_ and
    MALLOC_TRIM_THRESHOLD_ in the environment do the same.
    """
    if platform.libc_ver()[0] != "glibc":
        return "as the system has it"
    libc = ctypes.CDLL(None)
    done = [libc.mallopt(option, _KEPT) for option in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)]
    return "glibc, mmap and trim thresholds 1 GiB" if all(done) else "as the system has it"


def circumstances(allocator: str) -> dict[str, Any]:
    """Versions, machine and threads: what a figure means nothing without."""
    return {
        "convfold": version("convfold"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "clock": "time.process_time (CPU seconds of the process)",
        "allocator": allocator,
    }
