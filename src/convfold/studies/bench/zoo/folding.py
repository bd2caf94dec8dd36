"""What folding itself costs: CPU seconds and the highest memory above what the model takes, in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convfold.plan import plan
from convfold.studies.bench.zoo.models import prepared
from convfold.studies.bench.zoo.values import ZooSetting, timm_fold
from convfold.studies.timing import one_thread

__all__ = ["measure_folding", "measure_timm_folding", "peak"]

# Folding is repeated until it took this long, and this often at most.
_SECONDS, _RUNS = 15.0, 5
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _resident(field: str) -> int:
    """VmRSS, what the process holds now, or VmHWM, the most it held; bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def peak(work: Callable[[], object]) -> tuple[float, float | None]:
    """CPU seconds of ``work()``, and the MiB it held at most above what was held before; None outside Linux.

    Earlier peaks are forgotten and free memory is handed back first, so that neither hides anything.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    forgotten = False
    with suppress(OSError):
        _CLEAR.write_text("5")
        forgotten = True
    before = _resident("VmRSS") if forgotten else 0
    start = time.process_time()
    kept = work()
    seconds = time.process_time() - start
    memory = (_resident("VmHWM") - before) / 2**20 if forgotten else None
    del kept
    return seconds, memory


def _repeated(work: Callable[[], object]) -> dict[str, Any]:
    seconds, memory = peak(work)
    taken = [seconds]
    while sum(taken) < _SECONDS and len(taken) < _RUNS:
        taken.append(peak(work)[0])
    return {"seconds": statistics.median(taken), "runs": len(taken), "memory_mib": memory}


@contextmanager
def _timed_capture(taken: list[float]) -> Iterator[None]:
    """Adds the CPU seconds that each torch.export takes to `taken`."""
    real = torch.export.export

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        try:
            return real(*args, **kwargs)
        finally:
            taken.append(time.process_time() - start)

    torch.export.export = timed
    try:
        yield
    finally:
        torch.export.export = real


def _warm() -> None:
    """Import what folding imports, once, on a model that weighs nothing."""
    tiny = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 1, 1)).eval()
    plan(tiny, torch.zeros(1, 1, 2, 2)).apply()
    timm_fold(tiny)


def _start(name: str, setting: ZooSetting) -> tuple[nn.Module, Tensor]:
    model, x = prepared(name, setting.size, setting.seed)
    _warm()
    return model, x


def measure_folding(name: str, setting: ZooSetting) -> dict[str, Any]:
    """Planning with capture, and emission; `seconds` is all of it, `capture_seconds` the capture alone."""
    with one_thread(), torch.no_grad():
        model, x = _start(name, setting)
        captures: list[float] = []
        with _timed_capture(captures):
            found = _repeated(lambda: plan(model, x, setting.objective).apply())
        capture = sum(captures) / found["runs"]
        planned = plan(model, x, setting.objective)
        emission = _repeated(planned.apply)
    return {
        **found,
        "capture_seconds": capture,
        "seconds_without_capture": found["seconds"] - capture,
        "emission_seconds": emission["seconds"],
        "emission_memory_mib": emission["memory_mib"],
    }


def measure_timm_folding(name: str, setting: ZooSetting) -> dict[str, Any]:
    """timm's fold, with the copy it makes."""
    with one_thread(), torch.no_grad():
        model, _ = _start(name, setting)
        return _repeated(lambda: timm_fold(model))
