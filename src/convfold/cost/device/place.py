"""Which machine this is, and where what was measured on it is kept."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

__all__ = ["Place", "cache_folder", "here", "last_level_cache"]

_UNKNOWN_CACHE = 64 << 20


@dataclass(frozen=True)
class Place:
    """What a time depends on beside the operator: machine, device, threads, precision, and who executes it."""

    machine: str
    device: str
    threads: int
    dtype: str
    backend: str

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.machine}, {self.device}, {threads}, {self.dtype}, {self.backend}"

    @property
    def file_name(self) -> str:
        """``device-*.json``, of letters, digits and dashes."""
        said = " ".join(map(str, asdict(self).values()))
        return f"device-{re.sub('[^A-Za-z0-9.]+', '-', said).strip('-')}.json"


def here(device: torch.device, dtype: torch.dtype = torch.float32, backend: str = "torch") -> Place:
    """This process: eager torch on `device` in `dtype`, or another installed package as `backend`."""
    kind = str(dtype).removeprefix("torch.")
    return Place(_name(device), device.type, torch.get_num_threads(), kind, f"{backend} {version(backend)}")


def _name(device: torch.device) -> str:
    if device.type != "cuda":
        return _processor()
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "no GPU"


def _processor() -> str:
    try:
        told = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        told = None
    name = told.group(1).strip() if told else platform.processor() or platform.machine()
    return f"{name} {torch.backends.cpu.get_cpu_capability()}"


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/convfold``, where latencies are kept too."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convfold"


def last_level_cache() -> int:
    """Bytes of the largest cache of the CPU; 64 MiB where the system does not tell."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        told = re.fullmatch(r"(\d+)([KM])\s*", path.read_text())
        sizes += [int(told.group(1)) << {"K": 10, "M": 20}[told.group(2)]] if told else []
    return max(sizes, default=_UNKNOWN_CACHE)
