"""Is learning a product of factors easier than learning one? Descend, predict, compare, report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from convfold.files import write_text
from convfold.report import render
from convfold.studies.compare.contest import (
    Entry,
    choose_rate,
    mean_validation,
    say_log,
    tuning_seeds,
    validation,
    versions,
)
from convfold.studies.compare.depth.arms import (
    NETWORK,
    QUICK_TASKS,
    Settings,
    chosen_tasks,
    entries_of,
    network_run,
    quick,
    settings_of,
)
from convfold.studies.compare.depth.page import page
from convfold.studies.compare.depth.results import Results
from convfold.studies.compare.depth.runs import NetworkJob, SweepJob
from convfold.studies.compare.depth.table import tables
from convfold.studies.compare.depth.words import said
from convfold.studies.compare.options import CallOptions, default_folder
from convfold.studies.compare.runs import NamedJob, Runs, do

__all__ = ["DEFAULT_FOLDER", "SEEDS", "Options", "compare_depth"]

DEFAULT_FOLDER = default_folder("depth")
SEEDS, QUICK_SEEDS = 20, 2


@dataclass(frozen=True, kw_only=True)
class Options(CallOptions):
    """How this study is called."""

    study: ClassVar[str] = "depth"

    out: str | os.PathLike[str] = DEFAULT_FOLDER
    tasks: str | None = None

    @property
    def chosen(self) -> dict[str, object]:
        return {"seeds": self.seeds, "tasks": self.tasks}


def compare_depth(options: Options, console: Console) -> Results | None:
    """Run the study, or the rest of it, in ``options.out``; progress and tables go to `console`.

    With a shard only its runs are made, and nothing is reported (None): a call without one collects the runs of all
    shards and makes the rest. Raises InvalidArgument for an impossible number of seeds, workers or shards, UnknownName
    for a task, FileProblem when the folder cannot be written or is in use, ConvfoldError when a package is missing, a
    run fails or a worker dies.
    """
    seeds = options.seeds if options.seeds is not None else QUICK_SEEDS if options.quick else SEEDS
    tasks = chosen_tasks(options.tasks if options.tasks is not None else QUICK_TASKS if options.quick else None)
    entries = entries_of(tasks)
    options.check(seeds, len(entries))
    settings = quick(Settings()) if options.quick else Settings()
    mine = entries if options.shard is None else options.shard.part(entries)
    runs = Runs(Path(options.out), lambda name: settings_of(name, settings), options.shard)
    try:
        say_log(console, runs)
        tuned = {arm: network_jobs(arm, settings) for task, arm in mine if task == NETWORK}
        tuning: list[NamedJob] = [*sweep_jobs(mine, settings), *(job for jobs in tuned.values() for job in jobs)]
        do(tuning, runs, console, "Choosing learning rates", options.workers)
        losses = {arm: validation(jobs, runs) for arm, jobs in tuned.items()}
        rates = {arm: choose_rate(found) for arm, found in losses.items()}
        compared = compared_jobs(mine, rates, seeds, settings)
        do(compared, runs, console, "Descending", options.workers)
        finished = runs.results
    finally:
        runs.close()
    if options.shard is not None:
        console.print(f"Shard {options.shard}: {len(tuning) + len(compared)} runs are finished.", highlight=False)
        return None
    means = {arm: mean_validation(found) for arm, found in losses.items()}
    results = Results(tasks, seeds, settings, finished, rates, means, options.command, versions())
    with console.status("Drawing"):
        text = render(page(results))
    summary = {**results.to_dict(), "said": said(results)}
    write_text(runs.folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_text(runs.folder / "report.html", text)
    for table in tables(results):
        console.print(table)
    console.print(f"Report: {runs.folder / 'report.html'}", soft_wrap=True, highlight=False)
    return results


def sweep_jobs(entries: Sequence[Entry], settings: Settings) -> list[SweepJob]:
    """Sweeps of problems that are not compared: they choose the one rate for all problems of a task."""
    seeds = tuning_seeds(settings.tuning_seeds)
    return [SweepJob(task, arm, seed, settings, True) for task, arm in entries if task != NETWORK for seed in seeds]


def network_jobs(arm: str, settings: Settings) -> list[NetworkJob]:
    """The trainings that choose the learning rate of a network."""
    seeds = tuning_seeds(settings.network_tuning_seeds)
    return [
        NetworkJob(network_run(arm, rate, True), seed, settings) for rate in settings.network_rates for seed in seeds
    ]


def compared_jobs(entries: Sequence[Entry], rates: dict[str, float], seeds: int, settings: Settings) -> list[NamedJob]:
    """The runs that are compared, seed by seed, so that an early stop leaves whole comparisons."""
    return [
        NetworkJob(network_run(arm, rates[arm], False), seed, settings)
        if task == NETWORK
        else SweepJob(task, arm, seed, settings)
        for seed in range(seeds)
        for task, arm in entries
    ]
