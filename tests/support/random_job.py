"""A run of random graphs as a job for another process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from support.random_check import check_graph
from support.random_figures import Figures, Outcome
from support.random_graphs import random_graph

__all__ = ["OPEN", "TWICE", "Figures", "GraphJob", "figures_of"]

# Every so many graphs are folded twice; in a long run, every so many are captured with open sizes.
TWICE = 5
OPEN = 10


@dataclass(frozen=True)
class GraphJob:
    """The graphs of some seeds."""

    seeds: range

    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]:
        return figures_of(self.seeds, fixed=True).to_dict()


def figures_of(seeds: Iterable[int], fixed: bool = False) -> Figures:
    """Check the graphs of these seeds; with `fixed`, all but every tenth are captured at their own sizes alone."""
    figures = Figures()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for seed in seeds:

            def check(seed: int = seed) -> tuple[Outcome, Collection[str], str]:
                graph = random_graph(seed)
                outcome = check_graph(graph, twice=seed % TWICE == 0, fixed=fixed and seed % OPEN != 0)
                return outcome, graph.labels, graph.flavour

            figures.add(seed, check)
    return figures
