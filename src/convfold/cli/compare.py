"""``convfold compare``: methods side by side, under one budget, over many seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from convfold.cli.compare_blocks import blocks
from convfold.cli.compare_depth import depth
from convfold.cli.compare_options import ShardText, WorkerCount, part_of
from convfold.studies.compare.dynamic.study import DEFAULT_FOLDER, Options, compare_dynamic

__all__ = ["app"]

app = typer.Typer(name="compare", no_args_is_help=True, help="Compare methods under one budget, over many seeds.")


@app.command("dynamic")
def dynamic(
    quick: Annotated[bool, typer.Option("--quick", help="Two seeds, two epochs: a look, not a result.")] = False,
    seeds: Annotated[
        int | None, typer.Option(help="Runs per arm and task.", show_default="30, or 2 with --quick")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the log, the weights and the report.")] = Path(DEFAULT_FOLDER),
    shard: ShardText = None,
    workers: WorkerCount = None,
) -> None:
    """Rank static, blind, gated, wide and dynamic convolutions on digits, and write a report.

    Interrupted and started again with the same options, it goes on where it was.
    """
    compare_dynamic(Options(out=out, quick=quick, seeds=seeds, shard=part_of(shard), workers=workers), Console())


app.command("blocks")(blocks)
app.command("depth")(depth)
