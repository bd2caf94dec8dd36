"""The demo: train wide on real digits, fold, verify, export, and show it all on one page."""

from __future__ import annotations

import json
import os
import platform
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from convfold.blocks import Block, names
from convfold.errors import InvalidArgument
from convfold.files import output_folder, remove_leftovers, write_bytes, write_text
from convfold.report import render
from convfold.studies.asked import check_known, check_packages, missing_packages
from convfold.studies.demo.arms import CONTROL, PLAIN, Settings, TrainJob, dataset, is_block, label
from convfold.studies.demo.cost import count, latencies
from convfold.studies.demo.files import FIRST_SEED, Folder, OnnxJob, load_pair
from convfold.studies.demo.kernels import view
from convfold.studies.demo.page import page
from convfold.studies.demo.results import Network, Results
from convfold.studies.demo.table import table
from convfold.studies.runlog import RunLog
from convfold.studies.workers import Workers, available_cores
from convfold.train import Recipe

__all__ = ["DEFAULT_BLOCKS", "DEFAULT_FOLDER", "Options", "demo"]

DEFAULT_BLOCKS = ("acnet", "dbb", "doconv", "expandnet", "mobileone", "repvgg")
DEFAULT_FOLDER = "convfold-demo"
QUICK_BLOCKS = ("dbb", "doconv", "repvgg")
FULL, QUICK = Recipe(epochs=10, batch_size=32), Recipe(epochs=3, batch_size=32)
FULL_SEEDS, QUICK_SEEDS = 8, 3
FULL_ROUNDS, QUICK_ROUNDS = 25, 9
LATENCY_BATCH = 64
MOST_WORKERS = 8
# What the demo imports besides convfold's own requirements, by the extra that brings it.
PACKAGES = {
    "demo": ("sklearn", "scipy"),
    "report": ("matplotlib", "jinja2"),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}


@dataclass(frozen=True)
class Options:
    """How a demo is called; None takes the default, which is smaller when `quick`."""

    blocks: Sequence[str] | None = None
    seeds: int | None = None
    out: str | os.PathLike[str] = DEFAULT_FOLDER
    quick: bool = False

    @property
    def command(self) -> str:
        """The command line that means the same."""
        words = ["convfold", "demo"]
        words += ["--quick"] if self.quick else []
        words += ["--blocks", ",".join(self.blocks)] if self.blocks else []
        words += ["--seeds", str(self.seeds)] if self.seeds is not None else []
        words += ["--out", os.fspath(self.out)] if os.fspath(self.out) != DEFAULT_FOLDER else []
        return shlex.join(words)


def demo(options: Options, console: Console) -> Results:
    """Run the demo, or the rest of it, in ``options.out``; progress and a table go to `console`.

    Finished runs are taken from the folder's log; results made under other settings stay in it and are not
    used. Raises UnknownName for a block that does not exist, InvalidArgument for an impossible number of
    seeds, FileProblem when the folder cannot be written, ConvfoldError when a package is missing.
    """
    blocks = _checked_blocks(options.blocks or (QUICK_BLOCKS if options.quick else DEFAULT_BLOCKS))
    seeds = options.seeds if options.seeds is not None else QUICK_SEEDS if options.quick else FULL_SEEDS
    if seeds < 1:
        raise InvalidArgument("too few seeds", where="--seeds", got=seeds, expected="1 or more")
    _check_packages()
    arms = [PLAIN, CONTROL, *blocks]
    folder = Folder(output_folder(options.out))
    output_folder(folder.models)
    settings = Settings(QUICK if options.quick else FULL)
    log = RunLog(folder.log, settings.of)
    try:
        remove_leftovers(folder.targets(arms))
        jobs = _unfinished(log, folder, arms, seeds, settings)
        _say_resumed(console, log, len(arms) * seeds - len(jobs))
        count_of = max(1, min(MOST_WORKERS, available_cores(), len(jobs) or len(arms)))
        with Workers(count_of) as workers:
            _train(workers, jobs, log, folder, console)
            onnx = _export(workers, [OnnxJob(arm, settings, folder) for arm in arms], console)
        rounds = QUICK_ROUNDS if options.quick else FULL_ROUNDS
        with console.status("Counting and timing, one network after another"):
            networks, control = _measure(folder, arms, settings, onnx, rounds)
        results = Results(
            arms=arms,
            seeds=seeds,
            settings=settings,
            runs={(arm, seed): log.results[arm, seed] for arm in arms for seed in range(seeds)},
            networks=networks,
            control_latency=control,
            latency_batch=LATENCY_BATCH,
            command=options.command,
            versions=_versions(),
            workers=count_of,
        )
    finally:
        log.close()
    write_text(folder.summary, json.dumps(results.to_dict(), indent=1) + "\n")
    write_text(folder.report, render(page(results)))
    console.print(table(results))
    console.print(f"Report: {folder.report}", soft_wrap=True, highlight=False)
    console.print(f"Folded networks, safetensors and ONNX: {folder.models}", soft_wrap=True, highlight=False)
    return results


def _checked_blocks(blocks: Sequence[str]) -> list[str]:
    check_known("block", "--blocks", blocks, names())
    return list(dict.fromkeys(blocks))


def _check_packages() -> None:
    extras = [extra for extra, needed in PACKAGES.items() if missing_packages(needed)]
    check_packages("convfold demo", chain.from_iterable(PACKAGES.values()), ",".join(extras))


def _unfinished(log: RunLog, folder: Folder, arms: list[str], seeds: int, settings: Settings) -> list[TrainJob]:
    """The runs still to be made, seed by seed, so that an early stop leaves whole comparisons."""
    for arm in arms:
        if not folder.holds_weights(arm, settings):
            log.forget(arm, FIRST_SEED)
    return [
        TrainJob(arm, seed, settings, keep_weights=seed == FIRST_SEED)
        for seed in range(seeds)
        for arm in arms
        if (arm, seed) not in log.results
    ]


def _say_resumed(console: Console, log: RunLog, finished: int) -> None:
    def say(text: str) -> None:
        console.print(text, highlight=False)

    if finished:
        say(f"Resuming: {finished} finished {'run is' if finished == 1 else 'runs are'} taken from the log.")
    if log.foreign:
        say(f"{log.foreign} results in the log were made under other settings; they stay there and are not used.")
    if log.damaged:
        lines = "line of the log is" if log.damaged == 1 else "lines of the log are"
        say(f"{log.damaged} {lines} cut off or not a demo's, and ignored.")


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        console=console,
        transient=False,
    ) as progress:
        yield progress


def _train(workers: Workers, jobs: list[TrainJob], log: RunLog, folder: Folder, console: Console) -> None:
    if not jobs:
        return
    with _progress(console) as progress:
        whole = progress.add_task("Training, folding, verifying", total=len(jobs), unit="runs")
        bars: dict[int, TaskID] = {}
        for message in workers.run(jobs):
            job = jobs[message.job]
            if message.kind == "told":
                if message.job not in bars:
                    bars[message.job] = progress.add_task(
                        f"  {label(job.arm)}, seed {job.seed}", total=job.settings.recipe.epochs, unit="epochs"
                    )
                progress.update(bars[message.job], completed=message.value)
                continue
            progress.remove_task(bars.pop(message.job))
            _keep(job, message.value, log, folder)
            progress.advance(whole)


def _keep(job: TrainJob, result: dict[str, Any], log: RunLog, folder: Folder) -> None:
    """Files first, the log's line last: a run that is logged has its files."""
    for form, content in result.pop("weights", {}).items():
        write_bytes(folder.weights(job.arm, form), content)
    log.add(job.arm, job.seed, result)


def _export(workers: Workers, jobs: list[OnnxJob], console: Console) -> dict[str, dict[str, Any]]:
    found = {}
    with _progress(console) as progress:
        whole = progress.add_task("ONNX, run in ONNX Runtime", total=len(jobs), unit="files")
        for message in workers.run(jobs):
            found[jobs[message.job].arm] = message.value
            progress.advance(whole)
    return found


def _measure(
    folder: Folder, arms: list[str], settings: Settings, onnx: dict[str, dict[str, Any]], rounds: int
) -> tuple[dict[str, Network], Any]:
    images = dataset().test_x
    pairs = {arm: load_pair(folder, arm, settings) for arm in arms}
    timed = {f"{arm} wide": wide for arm, (wide, _) in pairs.items()}
    timed |= {f"{arm} folded": folded for arm, (_, folded) in pairs.items()}
    taken, control = latencies(timed, f"{PLAIN} folded", images[:LATENCY_BATCH], rounds)
    networks = {}
    for arm, (wide, folded) in pairs.items():
        modes = sorted({module.mode for module in wide.modules() if isinstance(module, Block)})
        networks[arm] = Network(
            mode=" and ".join(modes) + " mode" if modes else "–",
            wide=count(wide, images[:1]),
            folded=count(folded, images[:1]),
            wide_latency=taken[f"{arm} wide"],
            folded_latency=taken[f"{arm} folded"],
            onnx=onnx[arm],
            kernels=view(wide, folded) if is_block(arm) else None,
        )
    return networks, control


def _versions() -> dict[str, str]:
    packages = ("convfold", "torch", "onnx", "onnxruntime", "scikit-learn", "scipy", "matplotlib")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
