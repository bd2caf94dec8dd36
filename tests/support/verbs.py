"""What tests of verbs share: what was printed, work without worker processes, and how bad input is met."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from convfold.cli import run
from convfold.studies.workers import Job, Message

__all__ = ["Here", "printed", "refuses", "said"]


def printed(capture: pytest.CaptureFixture[str]) -> str:
    """What went to stdout, then what went to stderr."""
    captured = capture.readouterr()
    return captured.out + captured.err


def said(capture: pytest.CaptureFixture[str]) -> str:
    """The same on one line, however wide the terminal was taken for."""
    return " ".join(printed(capture).split())


class Here:
    """In place of worker processes: the jobs one after another, in this one."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def run(self, jobs: Sequence[Job]) -> Iterator[Message]:
        for number, job in enumerate(jobs):
            told: list[Any] = []
            result = job.run(told.append)
            yield from (Message(number, "told", step) for step in told)
            yield Message(number, "done", result)


def refuses(
    line: Sequence[str],
    sentence: str,
    folder: Path,
    capture: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command line ends with exit code 2 and the sentence, and leaves nothing in `folder`, where it is called."""
    monkeypatch.chdir(folder)
    assert run(list(line)) == 2
    text = said(capture)
    assert sentence in text
    assert "Traceback" not in text
    assert not list(folder.iterdir())
