"""Random graphs folded by the thousand: ``python -m tests.deep_graphs [N]`` writes results/deep-graphs.json.

Killed and started again it goes on where it was, as long as neither convfold nor the generator changed since.
``python -m tests.deep_graphs --seed S`` shows one graph, what came of it, and, where it failed, its smallest
beginning that fails too.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import torch  # noqa: E402

import convfold  # noqa: E402
from convfold.files import append_line, write_text  # noqa: E402
from convfold.studies.workers import Workers, available_cores  # noqa: E402
from support.random_check import CEILING, check_graph  # noqa: E402
from support.random_graphs import random_graph  # noqa: E402
from support.random_job import TWICE, Figures, GraphJob  # noqa: E402

OUT = ROOT / "results" / "deep-graphs.json"
PARTIAL = OUT.with_suffix(".partial.jsonl")
# Seeds in one job; jobs for which worker processes live: captures leave a little memory behind.
CHUNK, JOBS = 25, 40
WHAT = (
    "random networks folded and compared with themselves in float64, element by element relative to the largest "
    "output, on the example inputs, another batch and another size; no cost may rise; nothing may be rolled back; "
    f"the original's state bit-identical; every {TWICE}th folded twice; ceiling {CEILING:g}"
)


def fingerprint() -> str:
    """Of all that decides an outcome: convfold, the generator, the check."""
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "tests" / "support").glob("random_*.py")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def known(print_: str) -> dict[int, Figures]:
    """Finished jobs of an earlier, interrupted run, by their first seed."""
    found = {}
    for line in PARTIAL.read_text().splitlines() if PARTIAL.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:  # cut off by a kill
            continue
        if record["fingerprint"] == print_ and record["chunk"] == CHUNK:
            found[record["first"]] = Figures.from_dict(record["figures"])
    return found


def fold_all(count: int, start: int, processes: int) -> Figures:
    """Check graphs `start` to ``start + count``; progress goes to stderr."""
    print_ = fingerprint()
    done = known(print_)
    jobs = [GraphJob(range(first, min(first + CHUNK, start + count))) for first in range(start, start + count, CHUNK)]
    whole = Figures()
    waiting = []
    for job in jobs:
        if job.seeds[0] in done and done[job.seeds[0]].graphs == len(job.seeds):
            whole.join(done[job.seeds[0]])
        else:
            waiting.append(job)
    for low in range(0, len(waiting), JOBS):
        batch = waiting[low : low + JOBS]
        with Workers(min(processes, len(batch))) as workers:
            for message in workers.run(batch):
                if message.kind != "done":
                    continue
                whole.join(Figures.from_dict(message.value))
                first = batch[message.job].seeds[0]
                record = {"fingerprint": print_, "chunk": CHUNK, "first": first, "figures": message.value}
                append_line(PARTIAL, json.dumps(record))
                sys.stderr.write(f"\r{whole.graphs} of {count} graphs, {len(whole.failures)} failures ")
                sys.stderr.flush()
    sys.stderr.write("\n")
    return whole


def main(count: int, start: int, processes: int) -> int:
    PARTIAL.parent.mkdir(exist_ok=True)
    began = time.monotonic()
    figures = fold_all(count, start, processes)
    outcome: dict[str, Any] = {
        "command": " ".join(["python -m tests.deep_graphs", *sys.argv[1:]]),
        "what": WHAT,
        "first_seed": start,
        "versions": {
            "convfold": convfold.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
        "seconds_since_last_start": round(time.monotonic() - began, 1),
        **figures.to_dict(),
    }
    write_text(OUT, json.dumps(outcome, indent=1) + "\n")
    PARTIAL.unlink(missing_ok=True)
    for seed in sorted(figures.failures):
        sys.stdout.write(f"seed {seed}: {figures.failures[seed]}\n")
    sys.stdout.write(
        f"{figures.graphs} graphs, {len(figures.failures)} failures, worst error {figures.worst[0]:.2e} "
        f"(seed {figures.worst[1]}); {OUT.relative_to(ROOT)}\n"
    )
    return 1 if figures.failures else 0


def show(seed: int) -> int:
    """One graph and what came of it; exit code 1 when it fails."""
    failed = _shown(seed, None)
    if not failed:
        return 0
    for most in range(1, 8):
        try:
            check_graph(random_graph(seed, most), twice=seed % TWICE == 0)
        except Exception:
            sys.stdout.write(f"\nIts first {most} structures fail too:\n")
            _shown(seed, most)
            break
    return 1


def _shown(seed: int, most: int | None) -> bool:
    graph = random_graph(seed, most)
    sys.stdout.write(f"{graph}\n")
    try:
        sys.stdout.write(f"{check_graph(graph, twice=seed % TWICE == 0)}\n")
    except Exception:
        sys.stdout.write(traceback.format_exc())
        return True
    return False


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, nargs="?", default=10_000, help="graphs (10,000)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument("--seed", type=int, help="show this graph alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    sys.exit(main(given.count, given.start, given.processes) if given.seed is None else show(given.seed))
