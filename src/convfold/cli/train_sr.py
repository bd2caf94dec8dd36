"""``convfold train sr``: super-resolution and restoration, plain and wide, folded to one architecture."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from convfold.cli.names import listed
from convfold.errors import InvalidArgument
from convfold.studies.sr.options import DEFAULT_FOLDER, Options
from convfold.studies.sr.results import SSIM, Results, column
from convfold.studies.sr.study import train_sr as run_study
from convfold.studies.sr.words import between, gap, headline, verdicts
from convfold.studies.words import p_text
from convfold.train.sr import SrRecipe

__all__ = ["train_sr"]


def train_sr(
    block: Annotated[
        str,
        typer.Option(
            "--block", "--blocks", help="Blocks beside plain, with commas between them; plain for plain alone."
        ),
    ] = "doconv",
    scale: Annotated[int | None, typer.Option(help="How much larger.", show_default="2; 1 with noise or moire")] = None,
    degrade: Annotated[str, typer.Option(help="What is to be undone: bicubic, noise or moire.")] = "bicubic",
    steps: Annotated[int, typer.Option(help="Steps of training.")] = SrRecipe.steps,
    batch_size: Annotated[int, typer.Option(help="Crops in a step.")] = SrRecipe.batch_size,
    patch: Annotated[int, typer.Option(help="Edge of a crop of what the network sees, in pixels.")] = SrRecipe.patch,
    loss: Annotated[str, typer.Option(help="l1 or mse.")] = SrRecipe.loss,
    learning_rate: Annotated[
        str, typer.Option(help="Of Adam; several with commas between them are each tried by every arm.")
    ] = f"{SrRecipe.learning_rate:g}",
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    seeds: Annotated[int, typer.Option(help="Runs per arm and learning rate, each with a seed of its own.")] = 1,
    width: Annotated[int, typer.Option(help="Channels between the convolutions.")] = Options.width,
    depth: Annotated[int, typer.Option(help="Convolutions of the plain network.")] = Options.depth,
    pictures: Annotated[
        Path | None, typer.Option(help="A folder of pictures.", show_default="eleven bundled photographs")
    ] = None,
    bad_pictures: Annotated[
        str, typer.Option(help="A file that cannot be read, or is too small: fail, or skip it.")
    ] = "fail",
    out: Annotated[Path, typer.Option(help="Folder for the log, models, pictures and the report.")] = Path(
        DEFAULT_FOLDER
    ),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the runs that are in the folder.")] = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes of one thread.", show_default="one per core, 8 at most")
    ] = None,
) -> int:
    """Train networks that enlarge or restore photographs, fold and verify them, and write ONNX files and a report.

    Every arm starts from the plain network's weights and ships its architecture; convfold upscale runs the files.
    """
    recipe = SrRecipe(steps, batch_size, patch, loss=loss)
    names = listed(block)
    options = Options(
        blocks=[name for name in names if name != "plain"],
        scale=scale,
        degrade=degrade,
        recipe=recipe,
        rates=_rates(learning_rate),
        seed=seed,
        seeds=seeds,
        width=width,
        depth=depth,
        pictures=None if pictures is None else str(pictures),
        bad_pictures=bad_pictures,
        out=out,
        resume=resume,
        workers=workers,
    )
    console = Console()
    results = run_study(options, console)
    _show(console, results, out)
    return 0 if all(certificate["equal"] for certificate in results.certificates) else 1


def _rates(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise InvalidArgument(
            "this is no learning rate", where="--learning-rate", got=repr(text), expected="as 0.002, or 1e-3,4e-3"
        ) from error


def _show(console: Console, results: Results, out: Path) -> None:
    table = Table("arm", "learning rate", "PSNR, dB", "SSIM", "over plain, dB", "95% interval", "p (Holm)")
    similar = fmean(column(results.bicubic, SSIM))
    table.add_row("bicubic" if results.settings.scale > 1 else "as given", "", f"{results.floor:.3f}", f"{similar:.4f}")
    against = {(one.arm, one.rate): one.psnr for one in results.at_equal_rates}
    for rate in results.rates:
        for arm in results.arms:
            values = [f"{results.spread(arm, rate).mean:.3f}", f"{results.spread(arm, rate, SSIM).mean:.4f}"]
            pair = against.get((arm, rate))
            compared = ["", "", ""] if pair is None else [gap(pair.mean), between(pair), p_text(pair.adjusted)]
            table.add_row(arm, f"{rate:g}", *values, *compared)
    console.print(table)
    for sentence in [headline(results), *(verdicts(results) if len(results.seeds) > 1 else [])]:
        console.print(sentence, highlight=False, emoji=False, markup=False, soft_wrap=True)
    first = next(iter(results.files.values()))
    for name, place in (("Report", "report.html"), ("Pictures", "pictures"), ("ONNX files", "models")):
        console.print(f"{name}: {out / place}", highlight=False, soft_wrap=True)
    console.print(f"Use: convfold upscale PICTURE --model {out / first}", highlight=False, soft_wrap=True)
