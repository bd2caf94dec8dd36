"""``convfold compare blocks``: does a block help, at one deployed architecture?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from convfold.cli.compare_options import ShardText, WorkerCount, part_of
from convfold.cli.names import listed
from convfold.studies.compare.blocks.results import Results
from convfold.studies.compare.blocks.study import DEFAULT_FOLDER, Options, compare_blocks

__all__ = ["blocks"]


def blocks(
    quick: Annotated[bool, typer.Option("--quick", help="Two blocks, two seeds, two epochs: a look.")] = False,
    names: Annotated[
        str | None,
        typer.Option(
            "--blocks", help="Names of blocks with commas between them.", show_default="all, or two with --quick"
        ),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Of digits, digits-200, deep and sr, with commas.", show_default="all")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Runs per arm and task.", show_default="20, for sr 12; or 2 with --quick")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the log, the weights and the report.")] = Path(DEFAULT_FOLDER),
    shard: ShardText = None,
    workers: WorkerCount = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what there is to train and how long it takes, and train nothing.")
    ] = False,
) -> int:
    """Train every block against plain, fold it, hold it against controls of initial scale, and write a report.

    Interrupted and started again with the same options, it goes on where it was.

    Exits 1 where a folded network is not certified equal to the trained one, or costs something else than plain.
    """
    options = Options(
        out=out,
        quick=quick,
        seeds=seeds,
        shard=part_of(shard),
        workers=workers,
        blocks=None if names is None else listed(names),
        tasks=None if tasks is None else listed(tasks),
        dry_run=dry_run,
    )
    found = compare_blocks(options, Console())
    return int(isinstance(found, Results) and bool(found.unequal))
