"""``convfold demo``: train wide, fold, verify, and show it all on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from convfold.cli.names import listed
from convfold.studies.demo.study import DEFAULT_FOLDER, Options
from convfold.studies.demo.study import demo as run_demo

__all__ = ["demo"]


def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Three blocks, three seeds, three epochs.")] = False,
    blocks: Annotated[
        str | None,
        typer.Option(help="Names of blocks with commas between them.", show_default="six, or three with --quick"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs per arm.", show_default="8, or 3 with --quick")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the log, the models and the report.")] = Path(DEFAULT_FOLDER),
) -> int:
    """Train small networks wide on real digits, fold and verify them, and write a report.

    Interrupted and started again with the same options, it goes on where it was.
    """
    names = None if blocks is None else listed(blocks)
    results = run_demo(Options(names, seeds, out, quick), Console())
    return 0 if results.all_equal else 1
