"""The folder of a super-resolution study: whose runs it holds, and making those that are missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from convfold.errors import FileProblem, InvalidArgument
from convfold.files import write_text
from convfold.studies.compare.runs import Runs
from convfold.studies.sr.runs import Settings, SrJob
from convfold.studies.workers import Workers, available_cores
from convfold.train.settings import differences

__all__ = ["check_folder", "make_runs", "say_found"]

_SETTINGS = "settings.json"
_MOST_WORKERS = 8


def check_folder(folder: Path, settings: Settings, resume: bool) -> None:
    """Keep the settings in a new folder; hold those of one that has runs against `settings`.

    Raises FileProblem where there are runs and nobody asked to `resume` them, InvalidArgument, with the differences,
    for other settings.
    """
    file = folder / _SETTINGS
    if not file.exists():
        write_text(file, json.dumps(settings.shared(), indent=1) + "\n")
        return
    if not resume:
        raise FileProblem(
            "there are runs here already",
            where=str(folder),
            hint="--resume goes on with them; or choose another --out.",
        )
    try:
        begun: Any = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise FileProblem(
            f"the settings of the runs here cannot be read ({error})", where=str(file), hint="Choose another --out."
        ) from error
    if not isinstance(begun, dict) or (changed := differences(begun, json.loads(json.dumps(settings.shared())))):
        got = "; ".join(changed) if isinstance(begun, dict) else "no settings"
        raise InvalidArgument(
            "the runs here were begun with other settings",
            where=str(folder),
            got=got,
            hint="Ask for the same, or choose another --out.",
        )


def say_found(console: Console, runs: Runs, settings: Settings) -> None:
    """What is skipped, what is finished, and what of the log is not used."""

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True, emoji=False, markup=False)

    skipped = settings.pictures.skipped
    if skipped:
        say(f"{len(skipped)} {'file is' if len(skipped) == 1 else 'files are'} skipped:")
        for sentence in skipped:
            say(f"  {sentence}")
    if finished := len(runs.results):
        say(f"Resuming: {finished} finished {'run is' if finished == 1 else 'runs are'} taken from the log.")
    if runs.foreign:
        say(f"{runs.foreign} runs of the log were made under other settings and are not used.")
    if runs.damaged:
        say(f"{runs.damaged} lines of the log are cut off or not a study's, and ignored.")


def make_runs(jobs: Sequence[SrJob], runs: Runs, console: Console, workers: int | None) -> None:
    """Make the runs without a result in at most `workers` processes of one thread, with a bar for each at work.

    Raises ConvfoldError when one fails or a worker dies; what is logged by then stays, and so do checkpoints.
    """
    todo = [job for job in runs.missing(jobs) if isinstance(job, SrJob)]
    todo += [job for job in jobs if job not in todo and job.keep_weights and not runs.weights(job).exists()]
    if not todo:
        return
    count = max(1, min(workers or min(_MOST_WORKERS, available_cores()), len(todo)))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Workers(count) as processes, Progress(*columns, console=console) as progress:
        bar = progress.add_task("Training, folding, verifying: runs", total=len(todo))
        steps: dict[int, TaskID] = {}
        for message in processes.run(todo):
            job = todo[message.job]
            if message.kind == "told":
                if message.job not in steps:
                    label = f"  {job.name}, seed {job.seed}: steps"
                    steps[message.job] = progress.add_task(label, total=job.settings.recipe.steps)
                progress.update(steps[message.job], completed=message.value)
                continue
            if message.job in steps:
                progress.remove_task(steps.pop(message.job))
            runs.keep(job, message.value)
            with suppress(OSError):
                job.checkpoint.unlink(missing_ok=True)
            progress.advance(bar)
