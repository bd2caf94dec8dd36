"""A network with what trains it: one epoch, one evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from convfold.errors import ConvfoldError, FileProblem, InvalidArgument
from convfold.train.augment import Shown, View
from convfold.train.distributed import World
from convfold.train.images import Images, Part
from convfold.train.schedule import parameter_groups, rate
from convfold.train.seeds import epoch_order, mix
from convfold.train.settings import MOMENTUM, Settings
from convfold.train.synchronised import synchronise
from convfold.transform.ship.program import evaluating

__all__ = ["EpochRecord", "Learner"]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Steps between two looks at the losses: each look waits for the GPU.
_LOOK = 50
EVAL_BATCH = 256


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, numbered from 1: means over what was trained on, and errors on the test part, of the shipped weights.

    `learning_rate` is that of the last step, `images_per_second` over all processes, evaluation left out.
    """

    epoch: int
    train_loss: float
    train_error: float
    test_error: float
    learning_rate: float
    seconds: float
    images_per_second: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def _averaged(decay: float) -> Callable[..., None]:
    """``w' = d w' + (1 - d) w`` with ``d = min(decay, (1 + t) / (10 + t))`` after t averages: early weights fade.

    Whole numbers, as counts and tables of positions, are those of the last step.
    """

    def update(averaged: Any, current: Any, count: Tensor | int) -> None:
        if not averaged[0].is_floating_point():
            for own, last in zip(averaged, current, strict=True):
                own.copy_(last)
            return
        seen = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + seen) / (10 + seen)))(averaged, current, seen)

    return update


class Learner:
    """`core` is the network itself, wrapped for several processes; `shipped` its running average, where there is one.

    Raises InvalidArgument when a step cannot be shared evenly.
    """

    def __init__(self, core: nn.Module, view: View, images: Images, settings: Settings, world: World, workers: int):
        self.settings, self.world, self.view, self.images, self.workers = settings, world, view, images, workers
        self.batch = _batch(settings, world, len(images.train))
        self.steps = len(images.train) // self.batch
        self.layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.core = core.to(world.device).to(memory_format=self.layout)  # type: ignore[call-overload]
        self.wrapped: nn.Module = self.core
        self.unsynchronised: list[str] = []
        if world.size > 1:
            where = [world.device.index] if world.device.type == "cuda" else None
            self.wrapped = DistributedDataParallel(self.core, device_ids=where)
            # Afterwards, since it refuses SyncBatchNorm on CPUs; parameters and buffers stay the same tensors.
            self.unsynchronised = synchronise(self.core)
        groups: Any = parameter_groups(self.core, settings.decay)
        if settings.optimiser == "adamw":
            self.optimiser: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=settings.rate)
        else:
            self.optimiser = torch.optim.SGD(groups, lr=settings.rate, momentum=MOMENTUM)
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=settings.precision == "fp16")
        self.average = None
        if settings.ema:
            self.average = AveragedModel(self.core, multi_avg_fn=_averaged(settings.ema), use_buffers=True)

    @property
    def shipped(self) -> nn.Module:
        """The network whose error is measured, and that is folded in the end."""
        return self.core if self.average is None else self.average.module

    def epoch(self, index: int, on_step: Callable[[int, int], None] | None = None) -> EpochRecord:
        """Train for one epoch, `index` from 0, and test. What is random in it depends on (seed, index) alone.

        `on_step(done, of)` is called after each step. Raises ConvfoldError, with its place, for a loss or a weight
        that is not finite.
        """
        settings, world = self.settings, self.world
        began = time.perf_counter()
        # Dropout and its like; the epoch's order and what is done to images have generators of their own.
        torch.manual_seed(mix(settings.seed, index, -1 - world.rank))
        self.wrapped.train()
        losses = torch.zeros(self.steps, device=world.device)
        wrong = torch.zeros((), device=world.device)
        batches = self._batches(index)
        factor, looked = 0.0, 0
        for step in range(self.steps):
            factor = rate(settings.epochs, settings.warmup_epochs, index + step / self.steps)
            for group in self.optimiser.param_groups:
                group["lr"] = settings.rate * factor
            self._step(batches, losses[step], wrong)
            if (step + 1) % _LOOK == 0 or step + 1 == self.steps:
                self._check_losses(losses[looked : step + 1], index, looked)
                looked = step + 1
            if on_step is not None:
                on_step(step + 1, self.steps)
        world.agree(lambda: self._check_weights(index))
        count = self.steps * self.batch
        loss = float(world.sum(losses).mean()) / world.size
        missed = float(world.sum(wrong))
        seconds = time.perf_counter() - began
        tested = self.count_wrong(self.shipped, self.images.test) / len(self.images.test)
        whole = time.perf_counter() - began
        return EpochRecord(index + 1, loss, missed / count, tested, settings.rate * factor, whole, count / seconds)

    def _step(self, batches: Iterator[tuple[Tensor, Tensor]], loss_of_step: Tensor, wrong: Tensor) -> None:
        """One step of the optimiser; its loss and its errors are added in place."""
        settings, kind = self.settings, self.world.device.type
        precision = _AUTOCAST.get(settings.precision)
        self.optimiser.zero_grad(set_to_none=True)
        for part in range(settings.accumulate):
            images, labels = self._there(*next(batches))
            waits = part + 1 < settings.accumulate and isinstance(self.wrapped, DistributedDataParallel)
            with self.wrapped.no_sync() if waits else nullcontext():  # type: ignore[operator]
                with torch.autocast(kind, dtype=precision, enabled=precision is not None):
                    scores = self.wrapped(images)
                loss = F.cross_entropy(scores.float(), labels, label_smoothing=settings.label_smoothing)
                loss = loss / settings.accumulate
                self.scaler.scale(loss).backward()
            loss_of_step += loss.detach()
            wrong += (scores.detach().argmax(1) != labels).sum()
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.core)

    def _there(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        device = self.world.device
        shown = images.to(device, non_blocking=True).contiguous(memory_format=self.layout)
        return shown, labels.to(device, non_blocking=True)

    def _batches(self, index: int) -> Iterator[tuple[Tensor, Tensor]]:
        """This process's share of each step's images, in as many parts as a step has.

        The images of a step are the same for any number of processes. Those beyond the last whole step are left for
        another epoch's order.
        """
        order = epoch_order(len(self.images.train), self.settings.seed, index)
        shares = [
            part.tolist()
            for step in order[: self.steps * self.batch].split(self.batch)
            for part in step[self.world.rank :: self.world.size].chunk(self.settings.accumulate)
        ]
        return self._read(Shown(self.images.train, self.view, self.settings.seed, index), shares)

    def _read(self, shown: Shown, shares: list[list[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        # Its own generator: a loader draws from the global one, which dropout is to have for itself.
        loader: DataLoader[tuple[Tensor, Tensor]] = DataLoader(
            shown,
            batch_sampler=shares,
            num_workers=self.workers,
            generator=torch.Generator(),
            pin_memory=self.world.device.type == "cuda",
        )
        try:
            yield from loader
        except FileProblem as error:
            # The sentence of a reader beside the training comes at the end of that one's traceback.
            said = str(error).rpartition(f"{FileProblem.__name__}: ")[2]
            raise FileProblem(said.rstrip("\n.")) from error

    def predictions(self, model: nn.Module, part: Part) -> Tensor:
        """The class that `model` gives each image of this process's share of `part`: eval mode, full precision."""
        mine = list(range(self.world.rank, len(part), self.world.size))
        shares = [mine[first : first + EVAL_BATCH] for first in range(0, len(mine), EVAL_BATCH)]
        found = [torch.zeros(0, dtype=torch.int64)]
        with evaluating(model), torch.no_grad():
            for images, labels in self._read(Shown(part, self.view), shares):
                found.append(model(self._there(images, labels)[0]).argmax(1).cpu())
        return torch.cat(found)

    def count_wrong(self, model: nn.Module, part: Part) -> int:
        """How many images of `part` get another class than their own; each is looked at by one process, once."""
        mine = part.labels[self.world.rank :: self.world.size]
        wrong = (self.predictions(model, part) != mine).sum()
        return int(self.world.sum(wrong.to(self.world.device)))

    def _check_losses(self, losses: Tensor, index: int, first: int) -> None:
        total = self.world.sum(losses)
        if bool(total.isfinite().all()):
            return
        step = int((~total.isfinite()).nonzero()[0])

        def stop() -> None:
            raise ConvfoldError(
                "the loss is no longer finite",
                where=f"epoch {index + 1}, step {first + step + 1} of {self.steps}",
                got=float(total[step]) / self.world.size,
                expected="a finite loss",
                hint=self._remedy(index),
            )

        # All have the same sum, and come here together.
        self.world.agree(stop)

    def _check_weights(self, index: int) -> None:
        """The last step of an epoch may spoil weights after its loss was seen."""
        state = self.core.state_dict()
        bad = [name for name, t in state.items() if t.is_floating_point() and not bool(t.isfinite().all())]
        if bad:
            raise ConvfoldError(
                "weights are no longer finite",
                where=f"epoch {index + 1}, after step {self.steps} of {self.steps}",
                got=", ".join(bad[:3]),
                hint=self._remedy(index),
            )

    def _remedy(self, index: int) -> str:
        kept = f"The checkpoint after epoch {index} is kept" if index else "There is no checkpoint yet"
        return f"{kept}; a lower --learning-rate than {self.settings.rate:g} in another --out may do."


def _batch(settings: Settings, world: World, count: int) -> int:
    """Images per step: as asked, or all there are, in equal shares."""
    shares = settings.accumulate * world.size
    if settings.batch_size % shares:
        raise InvalidArgument(
            "a step cannot be shared evenly",
            where="--batch-size",
            got=settings.batch_size,
            expected=f"a multiple of {shares} ({world.size} processes, each in {settings.accumulate} parts)",
            hint=f"Take {math.ceil(settings.batch_size / shares) * shares}.",
        )
    whole = min(settings.batch_size, count - count % shares)
    if not whole:
        raise InvalidArgument(
            "there are too few images to train on", where="training part", got=count, expected=f"{shares} or more"
        )
    return whole
