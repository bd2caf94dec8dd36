"""Random graphs folded by the thousand: ``python -m tests.deep_graphs [N]`` writes results/deep-graphs.json.

Killed and started again it goes on where it was, as long as neither convfold nor the generator changed since.
``python -m tests.deep_graphs --seed S`` shows one graph, what came of it, and, where it failed, its smallest
beginning that fails too.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch

from convfold.studies.workers import available_cores
from support.deep_run import DeepRun
from support.random_check import CEILING, check_graph
from support.random_graphs import random_graph
from support.random_job import TWICE, GraphJob

WHAT = (
    "random networks folded and compared with themselves in float64, element by element relative to the largest "
    "output, on the example inputs, another batch and another size; no cost may rise; nothing may be rolled back; "
    f"the original's state bit-identical; every {TWICE}th folded twice; ceiling {CEILING:g}"
)
RUN = DeepRun("deep-graphs", "tests.deep_graphs", WHAT, GraphJob, ("random_*.py",))


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
    sys.exit(RUN.run(given.count, given.start, given.processes) if given.seed is None else show(given.seed))
