"""One training from its settings to its folder: begun, or gone on with from its checkpoint."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convfold.algebra import twin
from convfold.errors import InvalidArgument
from convfold.train.building import Built, build
from convfold.train.checkpoint import Checkpoint, read_checkpoint, restore_optimiser, write_checkpoint
from convfold.train.distributed import World
from convfold.train.folder import Folder
from convfold.train.images import Images, digit_images, file_mark
from convfold.train.learner import EpochRecord, Learner
from convfold.train.pictures import folder_images
from convfold.train.settings import Settings, differences
from convfold.train.watch import Watch
from convfold.zoo import check_fits

__all__ = ["Session"]

_DIGITS_FRACTION, _FOLDER_FRACTION = 0.5, 0.2

Tell = Callable[[str], None]


class Session:
    """A training of `settings` in the folder `out`; ``train()``, then `convfold.train.finish`.

    Images, network, optimiser and averages are made at once, and taken back to the checkpoint with `resume`, or begun
    anew where there is none yet. `tell` hears sentences of what was found. `workers`: processes that read pictures
    beside each process that trains; they do not change the result.

    Raises InvalidArgument where a training is in `out` already (without `resume`) or was begun with other settings,
    which are listed; FileProblem for a folder that cannot be written or another training writes in, and for a
    checkpoint of another architecture; and what `folder_images` and `build` raise.
    """

    def __init__(
        self,
        settings: Settings,
        out: str | os.PathLike[str],
        *,
        world: World | None = None,
        resume: bool = False,
        workers: int = 0,
        tensorboard: bool = False,
        tell: Tell | None = None,
        on_picture: Callable[[int, int], None] | None = None,
    ) -> None:
        self.settings, self.world, self.tell = settings, world or World(), tell or (lambda sentence: None)
        self.folder = Folder(Path(out))
        self.history: list[EpochRecord] = []
        world = self.world
        world.agree(self._open)
        try:
            began = world.share(world.agree(lambda: self._checkpoint(resume)))
            self.images = self._images(on_picture)
            self.built: Built = world.agree(lambda: build(settings, self.images, world.size))
            self.identity, self.circumstances = self._identity(), self._circumstances()
            identities = world.gather(self.identity)
            world.agree(lambda: self._same(identities))
            # Synchronised normalisations are for training alone: what is folded has the model's own.
            self._bare = twin(self.built.model) if world.first and world.size > 1 else None
            if began is not None:
                world.agree(lambda: self._hold(began))
            self.learner: Learner = world.agree(
                lambda: Learner(self.built.model, self.built.view, self.images, settings, world, workers)
            )
            if began is not None:
                self._restore(began)
            world.agree(self._begin)
            self._watch = Watch(self.folder.tensorboard, self.epoch, on=tensorboard and world.first)
        except BaseException:
            self.folder.close()
            raise

    @property
    def epoch(self) -> int:
        """How many epochs are done."""
        return len(self.history)

    def train(
        self,
        on_epoch: Callable[[EpochRecord], None] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[EpochRecord]:
        """Train the epochs that are left; a checkpoint after each. Returns the records of all.

        Raises ConvfoldError for a loss that is not finite and for a process that was lost, FileProblem where a
        checkpoint cannot be written; the one before is then whole.
        """
        with self.world.together():
            for index in range(self.epoch, self.settings.epochs):
                record = self.learner.epoch(index, on_step)
                self.history.append(record)
                self.world.agree(self._keep)
                if on_epoch is not None and self.world.first:
                    on_epoch(record)
        return self.history

    def shipped(self) -> nn.Module:
        """The trained network in eval mode on the CPU, as it was named and expanded; in the first process alone."""
        model = self.learner.shipped
        if self._bare is not None:
            self._bare.load_state_dict(model.state_dict())
            model = self._bare
        return model.cpu().eval()

    def close(self) -> None:
        """Close the logs and let go of the folder."""
        self._watch.close()
        self.folder.close()

    def _open(self) -> None:
        if self.settings.precision == "fp16" and self.world.device.type != "cuda":
            raise InvalidArgument(
                "fp16 is trained on a GPU", where="--precision", got="fp16", expected="bf16 or fp32 on a CPU"
            )
        if self.world.first:
            self.folder.open()

    def _checkpoint(self, resume: bool) -> Checkpoint | None:
        """Read by the first process, for all: the others may be on machines that have no such file."""
        path = self.folder.checkpoint
        if not self.world.first:
            return None
        if not path.exists():
            if resume:
                self.tell(f"there is no checkpoint in {self.folder.root} yet: the training begins")
            return None
        if not resume:
            raise InvalidArgument(
                "a training is here already",
                where=str(self.folder.root),
                got=path.name,
                hint="--resume goes on with it; another one goes to another --out.",
            )
        return read_checkpoint(path)

    def _images(self, on_picture: Callable[[int, int], None] | None) -> Images:
        s, world = self.settings, self.world
        if s.data == "digits":
            return world.agree(self._digits)
        return folder_images(
            Path(s.data),
            channels=s.channels,
            test_fraction=s.test_fraction or _FOLDER_FRACTION,
            split_seed=s.split_seed,
            skip=s.bad_pictures == "skip",
            world=world,
            on_picture=on_picture,
        )

    def _digits(self) -> Images:
        s = self.settings
        if s.channels == 3:
            raise InvalidArgument("the digits are grey", where="--channels", got=3, expected="1")
        return digit_images(s.split_seed, s.test_fraction or _DIGITS_FRACTION)

    def _identity(self) -> dict[str, Any]:
        """All that decides the weights, by name."""
        s = self.settings
        view = self.built.view
        recipe = s.expand is not None and s.expand.endswith(".toml")
        return s.to_dict() | {
            "data": f"{self.images.name} {self.images.fingerprint}, {len(self.images.left_out)} left out",
            "expand": file_mark(s.expand) if recipe and s.expand else s.expand,
            "weights": None if s.weights is None else file_mark(s.weights),
            "images": "x".join(map(str, view.shape)),
            "augment": view.augment,
            "flip": view.flip,
            "processes": self.world.size,
            "device": self.world.device.type,
        }

    def _circumstances(self) -> dict[str, Any]:
        return {
            "convfold": version("convfold"),
            "torch": torch.__version__,
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
        }

    def _same(self, identities: list[dict[str, Any]]) -> None:
        for rank, identity in enumerate(identities):
            if told := differences(identities[0], identity):
                raise InvalidArgument(
                    "the processes were started with other settings",
                    where=f"process {rank}",
                    got="; ".join(told),
                    expected="the same command on every machine",
                )

    def _hold(self, began: Checkpoint) -> None:
        if told := differences(began.identity, self.identity):
            raise InvalidArgument(
                f"this training was begun with other settings: {'; '.join(told)}",
                where=str(self.folder.root),
                hint="Repeat the command that began it, or begin another one in another --out.",
            )
        check_fits(self.built.model.state_dict(), began.model, self.folder.checkpoint)
        if told := differences(began.circumstances, self.circumstances):
            self.tell(f"not all is as it was when the training was begun, last bits may differ: {'; '.join(told)}")

    def _restore(self, began: Checkpoint) -> None:
        learner = self.learner
        learner.core.load_state_dict(began.model)
        if learner.average is not None:
            learner.average.load_state_dict(began.ema)
        restore_optimiser(learner.optimiser, began)
        learner.scaler.load_state_dict(began.plain["scaler"])
        self.history = [EpochRecord(**record) for record in began.history]
        self.tell(f"resumed after epoch {began.epoch} of {self.settings.epochs}")

    def _begin(self) -> None:
        if not self.world.first:
            return
        self.folder.rewrite_log(record.to_dict() for record in self.history)
        if not self.history:
            told: Mapping[str, Any] = {"settings": self.identity, "circumstances": self.circumstances}
            self.folder.write_json(self.folder.settings, told)

    def _keep(self) -> None:
        """The checkpoint first: the log can be made from it, and not the other way round."""
        if not self.world.first:
            return
        learner = self.learner
        tensors, plain = Checkpoint.of_optimiser(learner.optimiser, scaler=learner.scaler.state_dict())
        history = [record.to_dict() for record in self.history]
        ema = {} if learner.average is None else learner.average.state_dict()
        now = Checkpoint(
            self.epoch, self.identity, self.circumstances, history, learner.core.state_dict(), ema, tensors, plain
        )
        write_checkpoint(self.folder.checkpoint, now)
        self.folder.log(history[-1])
        self._watch.add(self.history[-1])
