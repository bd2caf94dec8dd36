"""Random graphs folded by the thousand: ``python -m tests.deep_graphs [N]`` writes results/deep-graphs.json.

Killed and started again it goes on where it was, as long as neither convfold nor the generator changed since.
``python -m tests.deep_graphs --seed S`` shows one graph, what came of it, and, where it failed, its smallest
beginning that fails too.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from support.deep_run import DeepRun
from support.random_check import CEILING, check_graph
from support.random_graphs import random_graph
from support.random_job import TWICE, GraphJob

WHAT = (
    "random networks folded and compared with themselves in float64, element by element relative to the largest "
    "output, on the example inputs, another batch and another size; no cost may rise; nothing may be rolled back; "
    f"the original's state bit-identical; every {TWICE}th folded twice; ceiling {CEILING:g}"
)
RUN = DeepRun(
    "deep-graphs",
    "tests.deep_graphs",
    WHAT,
    GraphJob,
    random_graph,
    lambda graph, seed: check_graph(graph, twice=seed % TWICE == 0),
    ("random_*.py",),
)

if __name__ == "__main__":
    sys.exit(RUN.main(__doc__, 10_000, "graph"))
