"""What a comparison of blocks will take, measured step by step before it begins."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from torch import nn

from convfold.studies.compare.blocks.arms import PLAIN, Arm, arms_of
from convfold.studies.compare.blocks.results import StepTimes
from convfold.studies.compare.blocks.run import Run, RunJob, arm_of, make_task
from convfold.studies.compare.blocks.tasks import TaskSettings, Trained
from convfold.studies.compare.contest import Entry
from convfold.studies.timing import one_thread, paired, ratio

__all__ = ["Budget", "Share", "budget", "step_times", "table"]

WARM, TIMED = 2, 4
# Seconds per measurement of a step: long against the clock's resolution, short against a machine's moods.
LEAST = 0.01


@dataclass(frozen=True)
class Share:
    """One arm on one task: the runs still to be made, and the CPU seconds of each."""

    task: str
    arm: Arm
    tuning: int
    ranking: int
    tuning_seconds: float
    ranking_seconds: float

    @property
    def seconds(self) -> float:
        return self.tuning * self.tuning_seconds + self.ranking * self.ranking_seconds


@dataclass(frozen=True)
class Budget:
    """What is still to be done."""

    shares: Sequence[Share]

    @property
    def runs(self) -> int:
        return sum(share.tuning + share.ranking for share in self.shares)

    @property
    def seconds(self) -> float:
        """CPU seconds of one thread."""
        return sum(share.seconds for share in self.shares)

    def said(self, workers: int) -> str:
        """In one sentence."""
        processes = "1 process" if workers == 1 else f"{workers} processes"
        return (
            f"{self.runs} runs to make, about {_time_text(self.seconds)} of CPU time: "
            f"about {_time_text(self.seconds / workers)} with {processes} on idle cores."
        )


def _time_text(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def budget(
    entries: Sequence[Entry], settings: Mapping[str, TaskSettings], finished: Mapping[tuple[str, int], object]
) -> Budget:
    """Measure a few training steps of every entry and, once for each block of a task, what comes after them.

    `finished` are the runs that the log has. What tuning has still to choose is taken to be chosen anew.
    """
    ends: dict[tuple[str, str], float] = {}
    shares = []
    done: dict[tuple[Entry, bool], int] = {}
    for name, _ in finished:
        if (run := Run.parse(name)) is not None:
            key = ((run.task, run.arm), run.tuning)
            done[key] = done.get(key, 0) + 1
    with one_thread():
        for task, name in entries:
            of, arm = settings[task], arm_of(task, name)
            tuning = max(len(of.rates) * of.tuning_seeds - done.get(((task, name), True), 0), 0)
            ranking = max(of.seeds - done.get(((task, name), False), 0), 0)
            if not tuning + ranking:
                continue
            job = RunJob(Run(task, name, of.rates[0], False), 0, of)
            network = job.start(arm)
            fitting = job.task.steps * _step(job, network)
            kind = (task, arm.block if arm.is_block else "")
            if kind not in ends:
                ends[kind] = _ending(job, arm)
            shares.append(Share(task, arm, tuning, ranking, fitting, fitting + ends[kind]))
    return Budget(shares)


def _step(job: RunJob, network: nn.Module) -> float:
    step = job.task.step(network)
    for _ in range(WARM):
        step()
    began = time.process_time()
    for _ in range(TIMED):
        step()
    return (time.process_time() - began) / TIMED


def _ending(job: RunJob, arm: Arm) -> float:
    began = time.process_time()
    job.after(job.start(arm), Trained([0.0]))
    return time.process_time() - began


def step_times(task: str, blocks: Sequence[str], settings: TaskSettings, rounds: int) -> StepTimes:
    """A training step of each block and of plain, timed in turns; the control is another plain network."""
    of = make_task(task, settings)
    arms = [arm for arm in arms_of(task, blocks).values() if arm.start == "equal"]

    def steps(name: str) -> list[object]:
        # Two networks, because where one lies in memory is chance too.
        jobs = [RunJob(Run(task, name, settings.rates[0], False), seed, settings) for seed in (0, 1)]
        return [of.step(job.start(arm_of(task, name))) for job in jobs]

    timed = {PLAIN: steps(PLAIN), "control": steps(PLAIN), **{arm.name: steps(arm.name) for arm in arms}}
    with one_thread():
        taken = paired(timed, rounds, LEAST)  # type: ignore[arg-type]
    ratios = {name: ratio(seconds, taken[PLAIN]) for name, seconds in taken.items() if name != PLAIN}
    control = ratios.pop("control")
    return StepTimes(ratios, control, sorted(taken[PLAIN])[len(taken[PLAIN]) // 2])


def table(found: Budget) -> Table:
    """One row per task and arm."""
    shown = Table(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="What is still to be trained: runs that tune + runs that rank"
    )
    shown.add_column("task", no_wrap=True)
    shown.add_column("arm", no_wrap=True)
    for title in ("runs", "seconds each", "CPU minutes"):
        shown.add_column(title, justify="right", no_wrap=True)
    last = ""
    for share in found.shares:
        runs = f"{share.tuning} + {share.ranking}"
        cells = [runs, f"{share.ranking_seconds:.1f}", f"{share.seconds / 60:.1f}"]
        shown.add_row("" if share.task == last else share.task, share.arm.label, *cells)
        last = share.task
    return shown
