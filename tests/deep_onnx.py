"""Random ONNX files folded by the thousand: ``python -m tests.deep_onnx [N]`` writes results/deep-onnx.json.

Killed and started again it goes on where it was, as long as neither convfold nor the generator changed since.
``python -m tests.deep_onnx --seed S`` shows one file, what came of it, and, where it failed, its smallest beginning
that fails too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import onnx
import onnxruntime
import torch

from convfold.studies.workers import available_cores
from support.deep_run import DeepRun
from support.onnx_random_check import CEILINGS, TIMES, check_file
from support.onnx_random_graphs import random_file
from support.onnx_random_job import TWICE, FileJob

WHAT = (
    "random ONNX files folded, and run in ONNX Runtime beside the original at the example sizes and, where the file "
    "leaves them open, at others; element by element against the original in float64, relative to the largest output "
    f"(ceilings {', '.join(f'{name} {most:g}' for name, most in CEILINGS.items())}, or {TIMES:g} times the original's "
    "own error); onnx.checker on every output; no cost may rise; nothing may be rolled back; inputs, outputs, operator "
    f"sets and metadata as they were; the file untouched; every {TWICE}th folded twice"
)
VERSIONS = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
RUN = DeepRun(
    "deep-onnx", "tests.deep_onnx", WHAT, FileJob, ("onnx_random_*.py", "random_figures.py", "deep_run.py"), VERSIONS
)


def show(seed: int) -> int:
    """One file and what came of it; exit code 1 when it fails."""
    if not _shown(seed, None):
        return 0
    for most in range(1, 8):
        try:
            with tempfile.TemporaryDirectory() as folder:
                check_file(random_file(seed, most), Path(folder), twice=seed % TWICE == 0)
        except Exception:
            sys.stdout.write(f"\nIts first {most} structures fail too:\n")
            _shown(seed, most)
            break
    return 1


def _shown(seed: int, most: int | None) -> bool:
    file = random_file(seed, most)
    sys.stdout.write(f"{file}\n")
    try:
        with tempfile.TemporaryDirectory() as folder:
            sys.stdout.write(f"{check_file(file, Path(folder), twice=seed % TWICE == 0)}\n")
    except Exception:
        sys.stdout.write(traceback.format_exc())
        return True
    return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=2_000, help="files (2,000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument("--seed", type=int, help="show this file alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.exit(RUN.run(given.count, given.start, given.processes) if given.seed is None else show(given.seed))
