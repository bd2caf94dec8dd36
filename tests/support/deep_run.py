"""Random graphs by the thousand: jobs in worker processes, resumed after a kill, their figures in one file."""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import convfold
from convfold.files import append_line, write_text
from convfold.studies.workers import Job, Workers, available_cores
from support.random_figures import Figures

__all__ = ["DeepRun"]

ROOT = Path(__file__).parents[2]
# The most structures that a graph is cut down to when it is shown.
FEW = 8
# Seeds in one job; jobs for which worker processes live: captures leave a little memory behind.
CHUNK, JOBS = 25, 40


@dataclass(frozen=True)
class DeepRun:
    """A run of the module `command`, into ``results/<name>.json``.

    `job` gives the work of some seeds, whose result is `Figures.to_dict`; `sources` are the files, patterns below
    tests/support, that decide an outcome, beside convfold's own. `make` gives what a seed stands for, or only its
    first structures; `check` what came of it, given the seed too.
    """

    name: str
    command: str
    what: str
    job: Callable[[range], Job]
    make: Callable[[int, int | None], Any]
    check: Callable[[Any, int], object]
    sources: tuple[str, ...]
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return ROOT / "results" / f"{self.name}.json"

    @property
    def partial(self) -> Path:
        return self.out.with_suffix(".partial.jsonl")

    def fingerprint(self) -> str:
        """Of all that decides an outcome: convfold, the generator, the check."""
        digest = hashlib.sha256(json.dumps([torch.__version__, self.versions]).encode())
        own: Iterable[Path] = (p for pattern in self.sources for p in (ROOT / "tests" / "support").glob(pattern))
        for path in sorted([*(ROOT / "src").rglob("*.py"), *own]):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def run(self, count: int, start: int, processes: int) -> int:
        """Check graphs `start` to ``start + count`` and write the outcome; the exit code, 1 with failures."""
        self.partial.parent.mkdir(exist_ok=True)
        began = time.monotonic()
        figures = self._figures(count, start, processes)
        outcome: dict[str, Any] = {
            "command": " ".join([f"python -m {self.command}", *sys.argv[1:]]),
            "what": self.what,
            "first_seed": start,
            "versions": {
                "convfold": convfold.__version__,
                "torch": torch.__version__,
                **self.versions,
                "python": platform.python_version(),
                "machine": platform.machine(),
            },
            "seconds_since_last_start": round(time.monotonic() - began, 1),
            **figures.to_dict(),
        }
        write_text(self.out, json.dumps(outcome, indent=1) + "\n")
        self.partial.unlink(missing_ok=True)
        for seed in sorted(figures.failures):
            sys.stdout.write(f"seed {seed}: {figures.failures[seed]}\n")
        sys.stdout.write(
            f"{figures.graphs} graphs, {figures.cheaper['any']} of them cheaper, {len(figures.failures)} failures, "
            f"worst error {figures.worst[0]:.2e} (seed {figures.worst[1]}); {self.out.relative_to(ROOT)}\n"
        )
        return 1 if figures.failures else 0

    def main(self, about: str | None, count: int, kind: str) -> int:
        """The command line: a run of `count` of a `kind`, or one of them shown; the exit code."""
        parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("count", type=int, nargs="?", default=count, help=f"{kind}s ({count:,})")
        parser.add_argument("--start", type=int, default=0, help="the first seed")
        parser.add_argument("--processes", type=int, default=available_cores())
        parser.add_argument("--seed", type=int, help=f"show this {kind} alone")
        given = parser.parse_args()
        torch.set_num_threads(1)
        if given.seed is not None:
            return self.show(given.seed)
        return self.run(given.count, given.start, given.processes)

    def show(self, seed: int) -> int:
        """What a seed stands for and what came of it, with its smallest beginning that fails too; 1 when it fails."""
        if not self._shown(seed, None):
            return 0
        for most in range(1, FEW):
            try:
                self.check(self.make(seed, most), seed)
            except Exception:
                sys.stdout.write(f"\nIts first {most} structures fail too:\n")
                self._shown(seed, most)
                break
        return 1

    def _shown(self, seed: int, most: int | None) -> bool:
        made = self.make(seed, most)
        sys.stdout.write(f"{made}\n")
        try:
            sys.stdout.write(f"{self.check(made, seed)}\n")
        except Exception:
            sys.stdout.write(traceback.format_exc())
            return True
        return False

    def _known(self, print_: str) -> dict[int, Figures]:
        """Finished jobs of an earlier, interrupted run, by their first seed."""
        found = {}
        for line in self.partial.read_text().splitlines() if self.partial.exists() else []:
            try:
                record = json.loads(line)
            except ValueError:  # cut off by a kill
                continue
            if record["fingerprint"] == print_ and record["chunk"] == CHUNK:
                found[record["first"]] = Figures.from_dict(record["figures"])
        return found

    def _figures(self, count: int, start: int, processes: int) -> Figures:
        """What all jobs gave; progress goes to stderr."""
        print_ = self.fingerprint()
        done = self._known(print_)
        ranges = [range(first, min(first + CHUNK, start + count)) for first in range(start, start + count, CHUNK)]
        whole = Figures()
        waiting = []
        for seeds in ranges:
            if seeds[0] in done and done[seeds[0]].graphs == len(seeds):
                whole.join(done[seeds[0]])
            else:
                waiting.append(seeds)
        for low in range(0, len(waiting), JOBS):
            batch = waiting[low : low + JOBS]
            with Workers(min(processes, len(batch))) as workers:
                for message in workers.run([self.job(seeds) for seeds in batch]):
                    if message.kind != "done":
                        continue
                    whole.join(Figures.from_dict(message.value))
                    first = batch[message.job][0]
                    record = {"fingerprint": print_, "chunk": CHUNK, "first": first, "figures": message.value}
                    append_line(self.partial, json.dumps(record))
                    sys.stderr.write(f"\r{whole.graphs} of {count} graphs, {len(whole.failures)} failures ")
                    sys.stderr.flush()
        sys.stderr.write("\n")
        return whole
