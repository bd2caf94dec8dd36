"""Options that all comparisons take."""

from __future__ import annotations

from typing import Annotated

import typer

from convfold.studies.compare.runs import Shard

__all__ = ["ShardText", "WorkerCount", "part_of"]

ShardText = Annotated[
    str | None,
    typer.Option("--shard", help="Make only part i of n, as 2/4; a call without --shard collects all parts."),
]
WorkerCount = Annotated[
    int | None, typer.Option("--workers", help="Processes of one thread.", show_default="one per core")
]


def part_of(shard: str | None) -> Shard | None:
    """The part that ``--shard`` names."""
    return None if shard is None else Shard.parse(shard)
