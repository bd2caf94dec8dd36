"""How a comparison is called: what all of them take, the command line of it, and what cannot be."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import ClassVar

from convfold.errors import InvalidArgument
from convfold.studies.asked import check_counts, check_packages
from convfold.studies.compare.contest import FIRST_TUNING_SEED
from convfold.studies.compare.runs import Shard

__all__ = ["CallOptions", "default_folder"]

PACKAGES = ("sklearn", "scipy", "matplotlib", "jinja2")


def default_folder(study: str) -> str:
    """Where a comparison writes to unless it is told."""
    return f"convfold-compare-{study}"


@dataclass(frozen=True, kw_only=True)
class CallOptions:
    """How a comparison is called; None takes the default, which is smaller when `quick`."""

    study: ClassVar[str]

    out: str | os.PathLike[str]
    quick: bool = False
    seeds: int | None = None
    shard: Shard | None = None
    workers: int | None = None

    @property
    def chosen(self) -> dict[str, object]:
        """By option what decides the report, None where the default does, in the order of the command line."""
        return {"seeds": self.seeds}

    @property
    def verb(self) -> str:
        """The command without options."""
        return f"convfold compare {self.study}"

    @property
    def command(self) -> str:
        """The command line that gives the report."""
        out = os.fspath(self.out)
        given = {**self.chosen, "out": None if out == default_folder(self.study) else out}
        words = [*self.verb.split(), *(["--quick"] if self.quick else [])]
        for option, value in given.items():
            words += [] if value is None else [f"--{option}", str(value)]
        return shlex.join(words)

    def check(self, seeds: int, entries: int, packages: tuple[str, ...] = ()) -> None:
        """Hold the call against what there is to do and what is installed.

        Raises InvalidArgument for an impossible number of `seeds`, workers or shards, ConvfoldError where one of
        PACKAGES, or of `packages`, is missing.
        """
        check_counts(seeds=seeds, workers=self.workers)
        if seeds > FIRST_TUNING_SEED:
            raise InvalidArgument(
                "seeds from there on choose learning rates",
                where="--seeds",
                got=seeds,
                expected=f"at most {FIRST_TUNING_SEED}",
            )
        # An arm on a task is one shard's: its learning rate is chosen from its own runs.
        if self.shard is not None and self.shard.count > entries:
            raise InvalidArgument(
                "there are more shards than work", where="--shard", got=self.shard, expected=f"at most {entries}"
            )
        check_packages(self.verb, (*PACKAGES, *packages), "demo,report")
