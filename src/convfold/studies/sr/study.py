"""Training super-resolution networks side by side: train, fold, verify, judge, write ONNX files, pictures, a report."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from rich.console import Console

from convfold.errors import InvalidArgument
from convfold.files import output_folder, remove_leftovers, write_text
from convfold.report import render
from convfold.studies.asked import check_counts, check_packages
from convfold.studies.compare.runs import Runs
from convfold.studies.sr.files import costs, folded_network, write_models, write_pictures
from convfold.studies.sr.folder import check_folder, make_runs, say_found
from convfold.studies.sr.options import Options
from convfold.studies.sr.page import page
from convfold.studies.sr.results import Results
from convfold.studies.sr.runs import PLAIN, Run, Settings, SrJob, fingerprint, pictures_of, plain_network
from convfold.train.sr import Bicubic, Degradation, quality, sr_arm
from convfold.train.sr.batch import check_sizes
from convfold.train.sr.quality import check_large_enough

__all__ = ["train_sr"]

PACKAGES = ("PIL", "skimage", "sklearn", "scipy", "matplotlib", "jinja2", "onnx", "onnxscript", "onnxruntime")


def train_sr(options: Options, console: Console) -> Results:
    """Make the runs, or those that are missing, and write models, pictures and a report into ``options.out``.

    Raises UnknownName for a block that does not exist, InvalidArgument for impossible options, for blocks that cannot
    start from the plain network's function, and with `resume` for other settings than the folder's, which it names;
    FileProblem for pictures and for a folder that holds runs already; ConvfoldError when a run fails.
    """
    rates = list(dict.fromkeys(options.rates))
    settings = _settings(options)
    arms = _arms(options, settings)
    seeds = list(range(options.seed, options.seed + options.seeds))
    folder = output_folder(options.out)
    check_folder(folder, settings, options.resume)
    runs = Runs(folder, settings.of)
    try:
        output_folder(folder / "checkpoints")
        jobs = [
            SrJob(Run(arm, rate), seed, settings, folder / "checkpoints" / _file(arm, rate, seed), seed == seeds[0])
            for seed in seeds
            for rate in rates
            for arm in arms
        ]
        written = [folder / "models" / f"{arm}.onnx" for arm in arms]
        written += [folder / "summary.json", folder / "report.html", *(folder / "pictures").glob("*.png")]
        remove_leftovers([*written, *(job.checkpoint for job in jobs), *map(runs.weights, jobs)])
        say_found(console, runs, settings)
        make_runs(jobs, runs, console, options.workers)
        finished = runs.results
        results = _results(options, settings, arms, rates, seeds, finished)
        kept = {job.what: job for job in jobs if job.keep_weights}
        networks = {arm: folded_network(runs, kept[Run(arm, results.best[arm])], settings) for arm in arms}
    finally:
        runs.close()
    with console.status("Writing ONNX files and pictures"):
        results = replace(results, costs=costs(networks), files=write_models(folder, results, networks))
        shown = write_pictures(folder, results, networks)
    write_text(folder / "summary.json", json.dumps(results.to_dict(), indent=1) + "\n")
    write_text(folder / "report.html", render(page(results, shown)))
    return results


def _settings(options: Options) -> Settings:
    check_packages("convfold train sr", PACKAGES, "train,demo,report,onnx")
    check_counts(seeds=options.seeds, workers=options.workers)
    if not options.rates:
        raise InvalidArgument("there is no learning rate", where="--learning-rate", expected="one, or several")
    for rate in options.rates:
        replace(options.recipe, learning_rate=rate)  # which raises for an impossible one
    scale = options.scale if options.scale is not None else 2 if options.degrade == "bicubic" else 1
    degradation = Degradation(scale, options.degrade)
    pictures = pictures_of(options.pictures, options.bad_pictures, options.recipe.patch * scale)
    check_sizes(pictures.train, options.recipe.patch * degradation.scale)
    for picture in (*pictures.validate, *pictures.test):
        check_large_enough(picture, degradation.scale)
    return Settings(
        degradation.scale,
        options.degrade,
        options.width,
        options.depth,
        options.recipe,
        options.pictures,
        options.bad_pictures,
        fingerprint(pictures),
    )


def _arms(options: Options, settings: Settings) -> list[str]:
    """Plain, then the blocks, each of which was expanded to once."""
    arms = list(dict.fromkeys([PLAIN, *options.blocks]))
    plain = plain_network(settings, options.seed)
    for arm in arms:
        sr_arm(plain, arm)
    return arms


def _file(arm: str, rate: float, seed: int) -> str:
    return f"{arm}-{rate:g}-seed{seed}.safetensors"


def _results(
    options: Options,
    settings: Settings,
    arms: list[str],
    rates: list[float],
    seeds: list[int],
    finished: Mapping[tuple[str, int], Mapping[str, Any]],
) -> Results:
    pictures = settings.pictures
    parts = {"train": pictures.train, "validate": pictures.validate, "test": pictures.test}
    packages = ("convfold", "torch", "scikit-image", "scikit-learn", "scipy", "onnxruntime", "pillow")
    asked = [(Run(arm, rate).name, seed) for arm in arms for rate in rates for seed in seeds]
    return Results(
        arms=arms,
        rates=rates,
        seeds=seeds,
        settings=settings,
        parts={part: [picture.name for picture in held] for part, held in parts.items()},
        skipped=pictures.skipped,
        runs={key: finished[key] for key in asked},
        bicubic=quality(Bicubic(settings.scale), pictures.test, settings.degradation),
        costs={},
        files={},
        command=options.command,
        versions={"python": platform.python_version(), **{name: version(name) for name in packages}},
    )
