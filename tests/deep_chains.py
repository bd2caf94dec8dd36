"""How planning grows with the graph: chains, residual streams and dense blocks of 100, 1,000 and 10,000 operators.

``python -m tests.deep_chains`` writes results/plan-chains.json: CPU seconds of the search alone, without a capture.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from convfold.files import write_text
from convfold.graph.program import Program
from convfold.plan.search.search import search
from plan.programs import Build

SIZES = (100, 1_000, 10_000)
ROUNDS = 3
OUT = Path(__file__).parents[1] / "results" / "plan-chains.json"


def convolutions(length: int) -> Program:
    """Convolution, two norms, ReLU, again and again."""
    b = Build(1, 4, 8, 8)
    value = b.x
    for _ in range(length // 4):
        value = b.act(b.norm(b.norm(b.conv(value, 4, 3, padding=1))))
    return b.done(value)


def norms(length: int) -> Program:
    """One linear chain: everything collapses."""
    b = Build(1, 4, 8, 8)
    value = b.x
    for _ in range(length):
        value = b.norm(value)
    return b.done(value)


def residual(length: int) -> Program:
    """A stream to which every block adds."""
    b = Build(1, 4, 8, 8)
    value = b.x
    for _ in range(length // 4):
        value = b.add(value, b.norm(b.conv(b.act(value), 4, 3, padding=1)))
    return b.done(value)


def dense(length: int) -> Program:
    """Every layer reads the last twenty."""
    b = Build(1, 4, 8, 8)
    values = [b.x]
    for _ in range(length // 4):
        values.append(b.conv(b.act(b.norm(b.concat(*values[-20:]))), 4, 3, padding=1))
    return b.done(values[-1])


def seconds(program: Program) -> float:
    """CPU seconds of one search: the median of a few."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        search(program)
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    """Time all shapes at all sizes and write the file."""
    shapes: tuple[Callable[[int], Program], ...] = (convolutions, norms, residual, dense)
    rows = {make.__name__: {size: round(seconds(make(size)), 4) for size in SIZES} for make in shapes}
    record = {"study": "plan chains", "command": "python -m tests.deep_chains", "rounds": ROUNDS, "cpu_seconds": rows}
    write_text(OUT, json.dumps(record, indent=1) + "\n")
    sys.stdout.write(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
