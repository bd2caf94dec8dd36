"""Random ONNX files folded by the thousand: ``python -m tests.deep_onnx [N]`` writes results/deep-onnx.json.

Killed and started again it goes on where it was, as long as neither convfold nor the generator changed since.
``python -m tests.deep_onnx --seed S`` shows one file, what came of it, and, where it failed, its smallest beginning
that fails too.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import onnx
import onnxruntime

from support.deep_run import DeepRun
from support.onnx_random_check import CEILINGS, TIMES, check_file
from support.onnx_random_graphs import RandomFile, random_file
from support.onnx_random_job import TWICE, FileJob

WHAT = (
    "random ONNX files folded, and run in ONNX Runtime beside the original at the example sizes and, where the file "
    "leaves them open, at others; element by element against the original in float64, relative to the largest output "
    f"(ceilings {', '.join(f'{name} {most:g}' for name, most in CEILINGS.items())}, or {TIMES:g} times the original's "
    "own error); onnx.checker on every output; no cost may rise; nothing may be rolled back; inputs, outputs, operator "
    f"sets and metadata as they were; the file untouched; every {TWICE}th folded twice"
)
VERSIONS = {"onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}


def _checked(file: RandomFile, seed: int) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return check_file(file, Path(folder), twice=seed % TWICE == 0)


RUN = DeepRun(
    "deep-onnx",
    "tests.deep_onnx",
    WHAT,
    FileJob,
    random_file,
    _checked,
    ("onnx_random_*.py", "random_figures.py", "deep_run.py"),
    VERSIONS,
)

if __name__ == "__main__":
    sys.exit(RUN.main(__doc__, 2_000, "file"))
