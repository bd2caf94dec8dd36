"""What counting itself costs: CPU time against a forward pass, and time and memory on a very large input.

``python -m`` this, MODEL HEIGHT WIDTH: one count in a fresh process, as JSON on stdout.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from convfold.cost import cost
from convfold.errors import FileProblem
from convfold.studies.timing import one_thread, paired, ratio
from convfold.zoo import load_model

__all__ = ["against_forward", "in_fresh_process"]

_MIB = 2**20


def against_forward(name: str = "torchvision:resnet50", size: int = 224, rounds: int = 15) -> dict[str, Any]:
    """CPU seconds of `cost` on the model, with all its figures, over those of one forward pass of batch 1."""
    torch.manual_seed(0)
    model, x = load_model(name).eval(), torch.randn(1, 3, size, size)

    def forward() -> object:
        with torch.inference_mode():
            return model(x)

    with one_thread():
        # Forward against itself shows what noise looks like.
        times = paired(
            {"forward": [forward], "cost": [lambda: cost(model, x)], "control": [forward]}, rounds, least=0.0
        )
    return {
        "model": name,
        "input": [1, 3, size, size],
        "seconds": {key: statistics.median(values) for key, values in times.items()},
        "cost / forward": ratio(times["cost"], times["forward"]).to_dict(),
        "forward / forward": ratio(times["control"], times["forward"]).to_dict(),
    }


def in_fresh_process(name: str = "timm:repvgg_b3", size: int = 4096) -> dict[str, Any]:
    """Seconds and MiB of the first count of the model in a process of its own; the model has real weights.

    Raises FileProblem when that process ends without a result.
    """
    command = [sys.executable, "-m", __name__, name, str(size), str(size)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise FileProblem("counting in a fresh process failed", where=name, got=last)
    found: dict[str, Any] = json.loads(ran.stdout.strip().splitlines()[-1])
    return found


def _resident() -> int:
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class _Peak:
    """The most memory held while it is open, looked at every millisecond."""

    def __enter__(self) -> _Peak:
        self.most = self.before = _resident()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.most = max(self.most, _resident())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, _resident())


def _main(name: str, height: str, width: str) -> None:
    torch.set_num_threads(1)
    model, x = load_model(name).eval(), torch.empty(1, 3, int(height), int(width), device="meta")
    runs = []
    for _ in range(3):
        with _Peak() as peak:
            wall, cpu = time.perf_counter(), time.process_time()
            report = cost(model, x)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        runs.append({"seconds": wall, "cpu_seconds": cpu, "mib": (peak.most - peak.before) / _MIB})
    found = {"model": name, "input": list(x.shape), "real_run": report.real_run, "macs": report.macs, "runs": runs}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
