"""What a comparison of networks runs on: jobs with a name and a seed, a folder of logs, shards, and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from convfold.errors import InvalidArgument
from convfold.files import output_folder, write_bytes
from convfold.studies.runlog import RunLog
from convfold.studies.workers import Workers, available_cores

__all__ = ["NamedJob", "Runs", "Shard", "do"]

MOST_WORKERS = 8


class NamedJob(Protocol):
    """A job of `workers.Workers` that a log can hold the result of."""

    @property
    def name(self) -> str: ...
    @property
    def seed(self) -> int: ...
    def run(self, tell: Callable[[Any], None]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Shard:
    """Part number `index` of `count`, from 1: of a sequence every count-th thing."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "2/4". Raises InvalidArgument for other texts."""
        first, _, second = text.partition("/")
        if not (first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second)):
            raise InvalidArgument("this is no shard", where="--shard", got=repr(text), expected="i/n with 1 <= i <= n")
        return cls(int(first), int(second))

    def part(self, things: Sequence[Any]) -> list[Any]:
        """The things of this shard; over all shards each thing once."""
        return list(things[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class Runs:
    """The finished runs in a folder, and the log that new ones are added to.

    A shard has a log of its own, so that shards can run at once; it knows only that. Without a shard all logs of the
    folder count. Raises FileProblem while another process writes one of them. To be closed.
    """

    def __init__(self, folder: Path, settings: Callable[[str], dict[str, Any]], shard: Shard | None = None) -> None:
        self.folder = output_folder(folder)
        own = folder / ("runs.jsonl" if shard is None else f"runs-{shard.index}-of-{shard.count}.jsonl")
        others = [] if shard else [path for path in sorted(folder.glob("runs-*-of-*.jsonl")) if path != own]
        self._logs: list[RunLog] = []
        try:
            for path in (own, *others):
                self._logs.append(RunLog(path, settings))
        except BaseException:
            self.close()
            raise

    @property
    def results(self) -> dict[tuple[str, int], dict[str, Any]]:
        """By name and seed; the own log's where another one has the same run."""
        return {key: result for log in reversed(self._logs) for key, result in log.results.items()}

    @property
    def foreign(self) -> int:
        return sum(log.foreign for log in self._logs)

    @property
    def damaged(self) -> int:
        return sum(log.damaged for log in self._logs)

    def missing(self, jobs: Sequence[NamedJob]) -> list[NamedJob]:
        """The jobs without a result, in their order."""
        finished = self.results
        return [job for job in jobs if (job.name, job.seed) not in finished]

    def weights(self, job: NamedJob) -> Path:
        """Where the weights of a run that keeps them are."""
        return self.folder / "models" / f"{job.name.replace('/', '-')}-seed{job.seed}.safetensors"

    def keep(self, job: NamedJob, result: dict[str, Any]) -> None:
        """Files first, the log's line last: a run that is logged has its files."""
        content = result.pop("weights", None)
        if content is not None:
            output_folder(self.folder / "models")
            write_bytes(self.weights(job), content)
        self._logs[0].add(job.name, job.seed, result)

    def close(self) -> None:
        """Let go of the logs."""
        for log in self._logs:
            log.close()


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        yield progress


def do(jobs: Sequence[NamedJob], runs: Runs, console: Console, title: str, most: int | None = None) -> int:
    """Do the `jobs` that have no result yet, in at most `most` processes of one thread; how many those were.

    Raises ConvfoldError when a job fails or a worker dies; what is logged by then stays.
    """
    todo = runs.missing(jobs)
    if not todo:
        return 0
    count = max(1, min(most or min(MOST_WORKERS, available_cores()), len(todo)))
    with Workers(count) as workers, _progress(console) as progress:
        whole = progress.add_task(title, total=len(todo))
        for message in workers.run(todo):
            if message.kind == "done":
                runs.keep(todo[message.job], message.value)
                progress.advance(whole)
    return len(todo)
