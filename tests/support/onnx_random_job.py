"""A run of random ONNX files as a job for another process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.onnx_random_check import check_file
from support.onnx_random_graphs import random_file
from support.random_figures import Figures, Outcome

__all__ = ["TWICE", "FileJob", "figures_of_files"]

# Every so many files are folded twice.
TWICE = 5


@dataclass(frozen=True)
class FileJob:
    """The files of some seeds."""

    seeds: range

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        return figures_of_files(self.seeds).to_dict()


def figures_of_files(seeds: Iterable[int]) -> Figures:
    """Check the files of these seeds."""
    figures = Figures()
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:

            def check(seed: int = seed) -> tuple[Outcome, Collection[str], str]:
                file = random_file(seed)
                outcome = check_file(file, Path(folder), twice=seed % TWICE == 0)
                return outcome, file.labels, "open sizes" if file.others is not None else "fixed sizes"

            figures.add(seed, check)
    return figures
