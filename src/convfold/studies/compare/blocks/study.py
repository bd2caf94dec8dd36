"""The comparison of blocks with plain at one deployed architecture: choose rates, train, fold, test, report."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from convfold.files import write_text
from convfold.report import render
from convfold.studies.compare.blocks.arms import BLOCKS, arms_of, checked_blocks
from convfold.studies.compare.blocks.budget import Budget, budget, step_times, table
from convfold.studies.compare.blocks.page import page
from convfold.studies.compare.blocks.results import Results
from convfold.studies.compare.blocks.run import Run, checked_tasks, ranking_jobs, tuning_jobs
from convfold.studies.compare.blocks.table import tables
from convfold.studies.compare.blocks.tasks import SETTINGS, TaskSettings, quick
from convfold.studies.compare.blocks.verdicts import verdict_dicts
from convfold.studies.compare.contest import Entry, play, say_log, versions
from convfold.studies.compare.options import CallOptions, default_folder
from convfold.studies.compare.runs import MOST_WORKERS, Runs
from convfold.studies.workers import available_cores

__all__ = ["DEFAULT_FOLDER", "Options", "compare_blocks"]

DEFAULT_FOLDER = default_folder("blocks")
QUICK_BLOCKS = ("doconv", "repvgg")
ROUNDS, QUICK_ROUNDS = 30, 3
# What super-resolution needs besides: pictures, and their similarity.
SR_PACKAGES = ("PIL", "skimage")


@dataclass(frozen=True, kw_only=True)
class Options(CallOptions):
    """How this comparison is called."""

    study: ClassVar[str] = "blocks"

    out: str | os.PathLike[str] = DEFAULT_FOLDER
    blocks: Sequence[str] | None = None
    tasks: Sequence[str] | None = None
    dry_run: bool = False

    @property
    def chosen(self) -> dict[str, object]:
        return {"blocks": _listed(self.blocks), "tasks": _listed(self.tasks), "seeds": self.seeds}

    def settings(self) -> dict[str, TaskSettings]:
        """Of every task."""
        found = {task: quick(of) if self.quick else of for task, of in SETTINGS.items()}
        return found if self.seeds is None else {task: replace(of, seeds=self.seeds) for task, of in found.items()}


def compare_blocks(options: Options, console: Console) -> Results | Budget:
    """Run the comparison, or the rest of it, in ``options.out``; progress and tables go to `console`.

    A dry run only measures what the call would take and returns that. So does a shard, after its runs: nothing is
    reported, and a call without one collects the runs of all shards and makes the rest. Raises UnknownName or
    InvalidArgument for blocks, tasks, seeds, workers or shards that there cannot be, FileProblem when the folder cannot
    be written or is in use, ConvfoldError when a package is missing, a run fails or a worker dies.
    """
    usual = QUICK_BLOCKS if options.quick else BLOCKS
    blocks = checked_blocks(usual if options.blocks is None else options.blocks)
    tasks = checked_tasks(list(SETTINGS) if options.tasks is None else options.tasks)
    settings = options.settings()
    entries = [(task, arm) for task in tasks for arm in arms_of(task, blocks)]
    seeds = min(settings[task].seeds for task in tasks)
    options.check(seeds, len(entries), SR_PACKAGES if "sr" in tasks else ())
    mine = entries if options.shard is None else options.shard.part(entries)
    runs = Runs(Path(options.out), lambda name: _settings_of(name, settings), options.shard)
    try:
        say_log(console, runs)
        expected = _expected(mine, settings, runs, options, console)
        if options.dry_run:
            console.print(table(expected))
            return expected
        played = play(
            mine,
            lambda entry: tuning_jobs(entry, settings),
            lambda rates: ranking_jobs(mine, rates, settings),
            runs,
            console,
            options.workers,
        )
    finally:
        runs.close()
    if options.shard is not None:
        console.print(f"Shard {options.shard}: {played.runs} runs are finished.", highlight=False)
        return expected
    with console.status("Timing training steps, one network after another"):
        rounds = QUICK_ROUNDS if options.quick else ROUNDS
        times = {task: step_times(task, blocks, settings[task], rounds) for task in tasks}
    results = Results(
        tasks=tasks,
        blocks=blocks,
        settings=settings,
        rates=played.rates,
        validation=played.validation,
        runs=played.results,
        times=times,
        command=options.command,
        versions=versions(),
        quick=options.quick,
    )
    _write(results, Path(options.out), console)
    return results


def _listed(names: Sequence[str] | None) -> str | None:
    return None if names is None else ",".join(names)


def _settings_of(name: str, settings: dict[str, TaskSettings]) -> dict[str, Any]:
    run = Run.parse(name)
    return {} if run is None else run.settings(settings[run.task])


def _expected(
    entries: Sequence[Entry], settings: dict[str, TaskSettings], runs: Runs, options: Options, console: Console
) -> Budget:
    """What is to be done, said before it is begun."""
    with console.status("Measuring what this will take"):
        expected = budget(entries, settings, runs.results)
    if expected.runs:
        workers = options.workers or min(MOST_WORKERS, available_cores())
        console.print(expected.said(workers), highlight=False)
    return expected


def _write(results: Results, folder: Path, console: Console) -> None:
    summary = {**results.to_dict(), "verdicts": verdict_dicts(results)}
    write_text(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    write_text(folder / "report.html", render(page(results)))
    for shown in tables(results):
        console.print(shown)
    if unequal := results.unequal:
        console.print(f"{len(unequal)} runs are not certified equal: {', '.join(unequal[:5])}.", highlight=False)
    console.print(f"Report: {folder / 'report.html'}", soft_wrap=True, highlight=False)
