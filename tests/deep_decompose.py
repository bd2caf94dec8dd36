"""Bounds and exactness of decompositions: ``python -m tests.deep_decompose [KERNELS] [SEED]``.

Each method on KERNELS (1,000 by default) random kernels; see tests/decompose/kernels.py. Writes
results/decompose-bounds.json; exit code 1 when a bound is passed.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402

import convfold  # noqa: E402
from convfold.files import write_text  # noqa: E402
from convfold.transform.decompose import METHODS  # noqa: E402
from decompose.kernels import Checked, check, random_conv  # noqa: E402


def measure(method: str, count: int, start: int) -> dict[str, Any]:
    """One method on `count` kernels: how close errors came to their bounds, and what passed one."""
    began = time.monotonic()
    failures: dict[int, str] = {}
    full: list[Checked] = []
    seen: Counter[str] = Counter()
    ratios = []
    for seed in range(start, start + count):
        case = random_conv(seed, method)
        seen.update([f"{len(case.conv.kernel_size)}-D", str(case.dtype).removeprefix("torch."), case.kind])  # type: ignore[attr-defined, arg-type]
        try:
            checked = check(case)
        except AssertionError as error:
            failures[seed] = str(error)
            continue
        if checked.row.bound:
            ratios.append(checked.row.error / checked.row.bound)
        if case.full and case.dtype is torch.float64 and method != "cp":
            full.append(checked)
    return {
        "method": method,
        "kernels": count,
        "failures": failures,
        "largest_error_over_bound": max(ratios),
        "median_error_over_bound": sorted(ratios)[len(ratios) // 2],
        "full_rank_in_float64": {
            "kernels": len(full),
            "worst_kernel_error": max((c.row.error for c in full), default=None),
            "worst_output_error": max((c.output_error for c in full), default=None),
        },
        "drawn": dict(sorted(seen.items())),
        "seconds": round(time.monotonic() - began, 1),
    }


def main(count: int = 1000, start: int = 0) -> int:
    """Measure all methods and write the outcome; the exit code."""
    torch.set_num_threads(1)
    rows = []
    for method in METHODS:
        rows.append(measure(method, count, start))
        sys.stdout.write(f"{rows[-1]}\n")
        sys.stdout.flush()
    outcome = {
        "command": " ".join(["python -m tests.deep_decompose", *sys.argv[1:]]),
        "what": "random convolutions (1-D to 3-D, groups, stride, dilation, padding modes, float64 to float16) at "
        "random ranks: the kernel read off the result by impulses, its relative Frobenius error against the bound; at "
        "full rank in float64 kernel and output within 1e-12 (all but cp)",
        "versions": {
            "convfold": convfold.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "rows": rows,
    }
    write_text(ROOT / "results" / "decompose-bounds.json", json.dumps(outcome, indent=1) + "\n")
    return 1 if any(row["failures"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
