"""The processes of one training, as ``torchrun`` starts them; one process is a world of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from convfold.errors import ConvfoldError, InvalidArgument

__all__ = ["World", "open_world"]

T = TypeVar("T")

# What torchrun sets, all of it.
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
# How many processes other launchers say that they started.
_LAUNCHERS = {"SLURM_NTASKS": "srun", "OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "mpiexec"}
_LINE = "torchrun --nproc-per-node N -m convfold train ..."
# Words of the errors that gloo and NCCL raise when a process is gone; they have no class of their own.
_TRANSPORT = ("gloo", "nccl", "connection reset", "connection closed", "connection refused", "broken pipe", "timed out")


@dataclass(frozen=True)
class World:
    """This process among the `size` of a training, and the device that it computes on."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - immutable

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """``sum over processes of values``, the same in each of them."""
        total = values.detach().clone()
        if self.size > 1:
            dist.all_reduce(total)
        return total

    def gather(self, value: T) -> list[T]:
        """The value of each process, by rank, in all of them. Whatever pickles."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def share(self, value: T) -> T:
        """The value that the first process has, in all of them. Whatever pickles."""
        if self.size == 1:
            return value
        found: list[Any] = [value]
        dist.broadcast_object_list(found)
        return found[0]  # type: ignore[no-any-return]

    def agree(self, action: Callable[[], T]) -> T:
        """What `action` returns here, once it has succeeded everywhere.

        Where it raised a ConvfoldError in any process, all end: the first of them raises it with its words, and the
        others leave without a word, so that one sentence is said.
        """
        problem: Exception | None = None
        try:
            done = action()
        except Exception as error:
            if self.size == 1:
                raise
            problem = error
        problems = self.gather(None if problem is None else _words(problem))
        if not any(problems):
            return done
        if not self.first:
            sys.exit(2)
        if isinstance(problem, ConvfoldError):
            raise problem
        rank = next(rank for rank, said in enumerate(problems) if said)
        raise ConvfoldError(str(problems[rank]).rstrip("."), where=f"process {rank}") from problem

    @contextmanager
    def together(self) -> Iterator[None]:
        """Turn the loss of another process into a sentence. Raises ConvfoldError."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or isinstance(error, ConvfoldError) or not _of_transport(error):
                raise
            raise ConvfoldError(
                "another process of this training ended, or is out of reach",
                where=f"process {self.rank} of {self.size}",
                hint="What was reached at the end of the last epoch is kept: the same command with --resume goes on.",
            ) from error

    def close(self) -> None:
        """Part from the others, whether they are still there or not."""
        if self.size > 1 and dist.is_initialized():
            # Where one of them is lost, what was under way with it fails here once more; that has been said.
            with suppress(RuntimeError):
                dist.destroy_process_group()


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, ConvfoldError) else f"{type(error).__name__}: {error}"


def _of_transport(error: RuntimeError) -> bool:
    said = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in said for word in _TRANSPORT)


def open_world(
    size: int | None = None, device: str | None = None, environment: Mapping[str, str] | None = None
) -> World:
    """Join the processes that ``torchrun`` started, by gloo on CPUs and nccl on GPUs; without torchrun: one process.

    `size` is how many there have to be. `device` is "cpu" or "cuda", by default a GPU where there is one. Raises
    InvalidArgument when another number of processes was started (also by a launcher that started each of them alone,
    which would train as many models over one another), or when a process has no GPU to itself.
    """
    held = os.environ if environment is None else environment
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda"):
        raise InvalidArgument("this is no device to train on", where="--device", got=repr(kind), expected="cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InvalidArgument("there is no GPU here", where="--device", got="cuda", hint="Leave --device out.")
    present = [name for name in _TORCHRUN if name in held]
    if "WORLD_SIZE" not in present and "RANK" not in present:
        _alone(size, held)
        return World(device=torch.device(kind))
    if missing := [name for name in _TORCHRUN if name not in held]:
        raise InvalidArgument(
            "the launcher left out what processes find one another by",
            where="environment",
            got=", ".join(present),
            expected=f"{', '.join(missing)} too",
            hint=f"Use torchrun: {_LINE}",
        )
    rank, count, local = (_number(name, held) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    _hold(size, count)
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise InvalidArgument(
                "there are more processes than GPUs",
                where=f"process {rank}",
                got=f"{torch.cuda.device_count()} GPUs",
                expected="one for each process of this machine",
                hint="Start fewer with --nproc-per-node.",
            )
        torch.cuda.set_device(local)
    place = torch.device(kind, local) if kind == "cuda" else torch.device("cpu")
    if count == 1:
        return World(device=place)
    try:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", rank=rank, world_size=count)
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidArgument(f"the processes did not find one another ({reason})", where="torchrun") from error
    world = World(rank, count, place)
    # Counted, not believed: each process adds itself.
    counted = int(world.sum(torch.ones(1, device=place)))
    _hold(count, counted)
    return world


def _alone(size: int | None, held: Mapping[str, str]) -> None:
    if size is not None:
        _hold(size, 1)
        return
    for name, launcher in _LAUNCHERS.items():
        if held.get(name, "1") not in ("", "0", "1"):
            raise InvalidArgument(
                f"{launcher} starts {held[name]} processes that do not know of one another, and each would train alone",
                where=name,
                got=held[name],
                expected="processes started by torchrun",
                hint=f"On each machine: {_LINE} (--world-size 1 trains in this process alone).",
            )


def _number(name: str, held: Mapping[str, str]) -> int:
    if not held[name].isdecimal():
        raise InvalidArgument("this is no number", where=name, got=repr(held[name]), hint=f"Use torchrun: {_LINE}")
    return int(held[name])


def _hold(expected: int | None, got: int) -> None:
    if expected is not None and expected != got:
        raise InvalidArgument(
            "another number of processes was started",
            where="--world-size",
            got=got,
            expected=expected,
            hint=f"Start them with torchrun: {_LINE}",
        )
