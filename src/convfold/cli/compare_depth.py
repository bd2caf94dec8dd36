"""``convfold compare depth``: linear chains of one function class against one layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from convfold.cli.compare_options import ShardText, WorkerCount, part_of
from convfold.studies.compare.depth.study import DEFAULT_FOLDER, Options, compare_depth

__all__ = ["depth"]


def depth(
    quick: Annotated[bool, typer.Option("--quick", help="Two seeds, a few tasks: a look, not a result.")] = False,
    seeds: Annotated[
        int | None, typer.Option(help="Problems per task and depth.", show_default="20, or 2 with --quick")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the log and the report.")] = Path(DEFAULT_FOLDER),
    shard: ShardText = None,
    workers: WorkerCount = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Names or patterns with commas between, as 'vector-*,network'; a wrong name lists them.",
            show_default="all, or some with --quick",
        ),
    ] = None,
) -> None:
    """Is learning a product easier than learning one factor? Chains of depth 1 to 4, and what theory predicts of them.

    One function class and one start for every depth: regression with p = 2 and 4, softmax and a small CNN on digits.
    Interrupted and started again with the same options, it goes on where it was.
    """
    options = Options(out=out, quick=quick, seeds=seeds, shard=part_of(shard), workers=workers, tasks=tasks)
    compare_depth(options, Console())
