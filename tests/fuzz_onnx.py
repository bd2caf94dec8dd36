"""Damaged ONNX files by the thousand: ``python -m tests.fuzz_onnx [N]`` writes results/onnx-fuzz.json.

Each file is read, run and folded in another process with a time limit; what comes of it is a folded file or a sentence.
``python -m tests.fuzz_onnx --seed S`` does that to one file, in this process, and shows the traceback if there is one;
``--write PATH`` writes the file.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402

import convfold  # noqa: E402
from convfold.errors import ConvfoldError  # noqa: E402
from convfold.files import write_text  # noqa: E402
from convfold.studies.workers import Workers  # noqa: E402
from support.onnx_fuzz import LIMIT, MEMORY, FuzzJob, try_file  # noqa: E402
from support.onnx_mutations import damaged  # noqa: E402

OUT = ROOT / "results" / "onnx-fuzz.json"
# Seeds in one job, and for which a worker lives: the libraries leave a little memory behind.
CHUNK, LIFE = 50, 1000
WHAT = (
    "small ONNX files damaged in their bytes (bits, cuts, splices) or in what they say (edges, operators, attributes, "
    "shapes, types, weights, external data, opsets), each read, run in ONNX Runtime and folded; a failure is whatever "
    "is neither a folded file that onnx's checker passes nor one sentence: another exception, the process dead, "
    f"more than {LIMIT:g} seconds, more than {MEMORY // 2**30} GiB, or a file left behind"
)


def fuzz(count: int, start: int) -> tuple[Counter[str], dict[int, str]]:
    """The outcomes of files `start` to ``start + count``, and the failures by seed; progress goes to stderr."""
    outcomes: Counter[str] = Counter()
    failures: dict[int, str] = {}
    first, end = start, start + count
    while first < end:
        last, stop = first, min(first + LIFE, end)
        jobs = [FuzzJob(range(low, min(low + CHUNK, stop))) for low in range(first, stop, CHUNK)]
        try:
            with Workers(1) as workers:
                for message in workers.run(jobs):
                    if isinstance(message.value, int):
                        last = message.value
                        sys.stderr.write(f"\r{last - start} of {count} files, {len(failures)} failures ")
                    elif message.kind == "told":
                        outcome, failure = message.value
                        outcomes[outcome] += 1
                        if failure:
                            failures[last] = failure
                            sys.stderr.write(f"\rseed {last}: {failure}\n")
            first = stop
        except ConvfoldError as error:
            failures[last] = str(error)
            sys.stderr.write(f"\rseed {last}: {error}\n")
            outcomes["failed"] += 1
            first = last + 1
    sys.stderr.write("\n")
    return outcomes, failures


def main(count: int, start: int) -> int:
    OUT.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    outcomes, failures = fuzz(count, start)
    outcome: dict[str, Any] = {
        "command": " ".join(["python -m tests.fuzz_onnx", *sys.argv[1:]]),
        "what": WHAT,
        "first_seed": start,
        "versions": {
            "convfold": convfold.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "seconds": round(time.monotonic() - began, 1),
        "files": count,
        "outcomes": dict(sorted(outcomes.items())),
        "failures": {str(seed): failures[seed] for seed in sorted(failures)},
    }
    write_text(OUT, json.dumps(outcome, indent=1) + "\n")
    for seed in sorted(failures):
        sys.stdout.write(f"seed {seed}: {failures[seed]}\n")
    sys.stdout.write(f"{count} files, {len(failures)} failures; {OUT.relative_to(ROOT)}\n")
    return 1 if failures else 0


def show(seed: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(f"{try_file(seed, Path(folder))}\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=5000, help="files (5,000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this file alone")
    parser.add_argument("--write", type=Path, help="with --seed: write the file there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.seed is None:
        sys.exit(main(given.count, given.start))
    if given.write:
        given.write.write_bytes(damaged(given.seed))
    sys.exit(show(given.seed))
