"""Is learning a product of factors easier than learning one? Descend, predict, compare, report."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from convfold.files import write_text
from convfold.report import render
from convfold.studies.compare_contest import Entry, check_call, choose_rate, say_log, tuning_seeds, versions
from convfold.studies.compare_depth_arms import (
    NETWORK,
    QUICK_TASKS,
    NetworkRun,
    Settings,
    chosen_tasks,
    entries_of,
    quick,
    settings_of,
)
from convfold.studies.compare_depth_page import page
from convfold.studies.compare_depth_results import Results
from convfold.studies.compare_depth_runs import NetworkJob, SweepJob
from convfold.studies.compare_depth_table import tables
from convfold.studies.compare_depth_words import said
from convfold.studies.compare_runs import NamedJob, Runs, Shard, do

__all__ = ["DEFAULT_FOLDER", "SEEDS", "Options", "compare_depth"]

DEFAULT_FOLDER = "convfold-compare-depth"
SEEDS, QUICK_SEEDS = 20, 2
PACKAGES = ("sklearn", "scipy", "matplotlib", "jinja2")


@dataclass(frozen=True)
class Options:
    """How the study is called; None takes the default, which is smaller when `quick`."""

    seeds: int | None = None
    out: str | os.PathLike[str] = DEFAULT_FOLDER
    quick: bool = False
    shard: Shard | None = None
    workers: int | None = None
    tasks: str | None = None

    @property
    def command(self) -> str:
        """The command line that gives the report."""
        words = ["convfold", "compare", "depth"]
        words += ["--quick"] if self.quick else []
        words += ["--seeds", str(self.seeds)] if self.seeds is not None else []
        words += ["--tasks", self.tasks] if self.tasks is not None else []
        words += ["--out", os.fspath(self.out)] if os.fspath(self.out) != DEFAULT_FOLDER else []
        return shlex.join(words)


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
    missing = [name for name in PACKAGES if find_spec(name) is None]
    check_call(seeds, options.workers, options.shard, len(entries), missing, "convfold compare depth")
    settings = quick(Settings()) if options.quick else Settings()
    mine = entries if options.shard is None else options.shard.part(entries)
    runs = Runs(Path(options.out), lambda name: settings_of(name, settings), options.shard)
    try:
        say_log(console, runs)
        tuning = tuning_jobs(mine, settings)
        do(tuning, runs, console, "Choosing learning rates", options.workers)
        validation = _validation(mine, settings, runs)
        rates = {arm: choose_rate(losses) for arm, losses in validation.items()}
        compared = compared_jobs(mine, rates, seeds, settings)
        do(compared, runs, console, "Descending", options.workers)
        finished = runs.results
    finally:
        runs.close()
    if options.shard is not None:
        console.print(f"Shard {options.shard}: {len(tuning) + len(compared)} runs are finished.", highlight=False)
        return None
    means = {arm: {rate: _mean(losses) for rate, losses in found.items()} for arm, found in validation.items()}
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


def tuning_jobs(entries: Sequence[Entry], settings: Settings) -> list[NamedJob]:
    """Sweeps of problems that are not compared; networks at every rate."""
    jobs: list[NamedJob] = []
    for task, arm in entries:
        if task == NETWORK:
            jobs += [
                NetworkJob(NetworkRun(arm, rate, True), seed, settings)
                for rate in settings.network_rates
                for seed in tuning_seeds(settings.network_tuning_seeds)
            ]
        else:
            jobs += [SweepJob(task, arm, seed, settings, True) for seed in tuning_seeds(settings.tuning_seeds)]
    return jobs


def compared_jobs(entries: Sequence[Entry], rates: dict[str, float], seeds: int, settings: Settings) -> list[NamedJob]:
    """The runs that are compared, seed by seed, so that an early stop leaves whole comparisons."""
    return [
        NetworkJob(NetworkRun(arm, rates[arm], False), seed, settings)
        if task == NETWORK
        else SweepJob(task, arm, seed, settings)
        for seed in range(seeds)
        for task, arm in entries
    ]


def _validation(entries: Sequence[Entry], settings: Settings, runs: Runs) -> dict[str, dict[float, list[float | None]]]:
    finished, seeds = runs.results, tuning_seeds(settings.network_tuning_seeds)
    return {
        arm: {
            rate: [finished[NetworkRun(arm, rate, True).name, seed]["validation_loss"] for seed in seeds]
            for rate in settings.network_rates
        }
        for task, arm in entries
        if task == NETWORK
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
