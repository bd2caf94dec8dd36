"""A few worker processes with one thread each, which may be killed at any moment without leaving orphans.

multiprocessing's own pools hang when a worker dies and keep working when their parent is killed; here a
worker's death is an error at once, and a worker whose parent is gone stops at its next message.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any, Protocol

import torch

from convfold.errors import ConvfoldError

__all__ = ["Job", "Message", "Workers", "available_cores"]

# Seconds a worker has to end by itself.
GRACE = 5.0


class Job(Protocol):
    """Something to do in another process: it and what it returns and tells can be pickled."""

    def run(self, tell: Callable[[Any], None]) -> Any: ...


@dataclass(frozen=True)
class Message:
    """News from job number `job`: `kind` is "told" while it runs, "done" with its result, or "failed"."""

    job: int
    kind: str
    value: Any


def available_cores() -> int:
    """How many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@contextmanager
def _holding_interrupts() -> Iterator[None]:
    """Ctrl-C waits until the end of the block; processes started in it never hear it.

    It reaches the whole process group, and a process that is still importing would answer with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    # multiprocessing starts its tracker with the first process, and would unblock the signal then.
    resource_tracker.ensure_running()
    held: list[int] = []
    # Processes inherit the mask; the handler is for this process, whose other threads have no mask.
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if held:
        raise KeyboardInterrupt


def _serve(pipe: Connection) -> None:
    """The worker: takes jobs until its parent closes the pipe or is gone."""
    # Where signals cannot be held back: Ctrl-C is the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Ended in order, a worker frees the semaphores its imports made; killed, it leaves a warning about them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    torch.set_num_threads(1)
    try:
        while True:
            number, job = pipe.recv()
            pipe.send(_do(number, job, pipe))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _do(number: int, job: Job, pipe: Connection) -> Message:
    try:
        return Message(number, "done", job.run(lambda value: pipe.send(Message(number, "told", value))))
    except (BrokenPipeError, ConnectionResetError):
        raise
    except ConvfoldError as error:
        return Message(number, "failed", str(error).rstrip("."))
    except Exception as error:
        return Message(number, "failed", f"{type(error).__name__}: {error}")


class Workers:
    """`count` processes, started at once, used in a ``with`` block and ended with it."""

    def __init__(self, count: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._members: dict[Connection, SpawnProcess] = {}
        self._count = count

    def __enter__(self) -> Workers:
        with _holding_interrupts():
            for _ in range(self._count):
                ours, theirs = self._context.Pipe()
                process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                self._members[ours] = process
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe, process in self._members.items():
            process.terminate()
            pipe.close()
        for process in self._members.values():
            process.join(GRACE)
            process.kill()
            process.join()

    @property
    def processes(self) -> list[SpawnProcess]:
        """The worker processes."""
        return list(self._members.values())

    def run(self, jobs: Sequence[Job]) -> Iterator[Message]:
        """Do all `jobs` and yield their messages as they come.

        Raises ConvfoldError when a job fails or a worker dies; the other jobs in hand are then lost.
        """
        waiting = deque(enumerate(jobs))
        busy: dict[Connection, int] = {}

        def give(pipe: Connection) -> None:
            if waiting:
                number, job = waiting.popleft()
                busy[pipe] = number
                try:
                    pipe.send((number, job))
                except (BrokenPipeError, ConnectionResetError) as error:
                    raise self._death(pipe) from error

        for pipe in self._members:
            give(pipe)
        while busy:
            for pipe in wait(list(busy)):
                assert isinstance(pipe, Connection)
                message = self._receive(pipe)
                if message.kind == "failed":
                    raise ConvfoldError(message.value, where=str(jobs[message.job]))
                if message.kind == "done":
                    del busy[pipe]
                    give(pipe)
                yield message

    def _receive(self, pipe: Connection) -> Message:
        try:
            message: Message = pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            raise self._death(pipe) from error
        return message

    def _death(self, pipe: Connection) -> ConvfoldError:
        process = self._members[pipe]
        process.join()
        return ConvfoldError(
            f"a worker process ended by itself (exit code {process.exitcode})",
            hint="It may have run out of memory; run the same command to resume.",
        )
