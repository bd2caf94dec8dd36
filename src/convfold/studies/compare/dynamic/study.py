"""The comparison of dynamic convolutions under one budget: choose rates, rank over seeds, cost, report."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich.console import Console
from torch import nn

from convfold.cost import cost
from convfold.files import write_text
from convfold.report import render
from convfold.studies.compare.contest import Entry, play, say_log, versions
from convfold.studies.compare.dynamic.arms import ARMS, Run, RunJob, Settings, quick, tuning_jobs
from convfold.studies.compare.dynamic.network import started
from convfold.studies.compare.dynamic.page import page
from convfold.studies.compare.dynamic.results import Cost, Results
from convfold.studies.compare.dynamic.table import tables
from convfold.studies.compare.dynamic.tasks import TASKS, dataset
from convfold.studies.compare.options import CallOptions, default_folder
from convfold.studies.compare.runs import Runs
from convfold.studies.demo.cost import latencies

__all__ = ["DEFAULT_FOLDER", "SEEDS", "Options", "compare_dynamic"]

DEFAULT_FOLDER = default_folder("dynamic")
SEEDS, QUICK_SEEDS = 30, 2
LATENCY_BATCH = 64
ROUNDS, QUICK_ROUNDS = 40, 5


@dataclass(frozen=True, kw_only=True)
class Options(CallOptions):
    """How this comparison is called."""

    study: ClassVar[str] = "dynamic"

    out: str | os.PathLike[str] = DEFAULT_FOLDER


def compare_dynamic(options: Options, console: Console) -> Results | None:
    """Run the comparison, or the rest of it, in ``options.out``; progress and tables go to `console`.

    With a shard only its runs are made, and nothing is reported (None): a call without one collects the runs of all
    shards and makes the rest. Raises InvalidArgument for an impossible number of seeds, workers or shards, FileProblem
    when the folder cannot be written or is in use, ConvfoldError when a package is missing, a run fails or a
    worker dies.
    """
    seeds = options.seeds if options.seeds is not None else QUICK_SEEDS if options.quick else SEEDS
    entries = list(product(TASKS, ARMS))
    options.check(seeds, len(entries))
    settings = quick(Settings()) if options.quick else Settings()
    mine = entries if options.shard is None else options.shard.part(entries)
    folder = Path(options.out)
    runs = Runs(folder, lambda name: _settings_of(name, settings), options.shard)
    try:
        say_log(console, runs)
        played = play(
            mine,
            lambda entry: tuning_jobs(*entry, settings),
            lambda rates: ranking_jobs(mine, rates, seeds, settings),
            runs,
            console,
            options.workers,
        )
    finally:
        runs.close()
    if options.shard is not None:
        console.print(f"Shard {options.shard}: {played.runs} runs are finished.", highlight=False)
        return None
    with console.status("Counting and timing, one network after another"):
        costs, control = _costs(settings, QUICK_ROUNDS if options.quick else ROUNDS)
    results = Results(
        tasks=TASKS,
        arms=list(ARMS),
        seeds=seeds,
        settings=settings,
        rates=played.rates,
        validation=played.validation,
        runs=played.results,
        costs=costs,
        control=control,
        latency_batch=LATENCY_BATCH,
        command=options.command,
        versions=versions(),
    )
    write_text(folder / "summary.json", json.dumps(results.to_dict(), indent=1) + "\n")
    write_text(folder / "report.html", render(page(results)))
    for table in tables(results):
        console.print(table)
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True, highlight=False)
    return results


def ranking_jobs(
    entries: Sequence[Entry], rates: Mapping[Entry, float], seeds: int, settings: Settings
) -> list[RunJob]:
    """The runs that rank, seed by seed, so that an early stop leaves whole comparisons; the first keep weights."""
    return [
        RunJob(Run(task, arm, rates[task, arm], False), seed, settings, keep_weights=seed == 0)
        for seed in range(seeds)
        for task, arm in entries
    ]


def _settings_of(name: str, settings: Settings) -> dict[str, Any]:
    run = Run.parse(name)
    return {} if run is None else run.settings(settings)


def _costs(settings: Settings, rounds: int) -> tuple[dict[str, Cost], tuple[Any, Any]]:
    """Counts and latencies of each arm's network, and of static against itself, at batch 1 and LATENCY_BATCH."""
    images = dataset(TASKS[0], 0).test_x
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {arm: started(ARMS[arm].kind, 0, settings.width).eval() for arm in ARMS}
    single, control = latencies(networks, "static", images[:1], rounds)
    batch, batch_control = latencies(networks, "static", images[:LATENCY_BATCH], rounds)
    found = {}
    for arm, network in networks.items():
        counted = cost(network, images[:1])
        found[arm] = Cost(counted.macs, counted.params, single[arm], batch[arm])
    return found, (control, batch_control)
