"""What ``convfold train`` does: a training from begin to end, with its words, bars and pictures."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from convfold.report.training_curves import training_curves
from convfold.train import EpochRecord, Outcome, Session, Settings, World, finish, open_world
from convfold.zoo.quiet import quiet

__all__ = ["Options", "train_images"]

_COSTS = {"macs": "MACs", "params": "parameters", "convolutions": "convolutions", "weight_bytes": "bytes of weights"}


@dataclass(frozen=True)
class Options:
    """How a training is run, besides the settings that decide its weights."""

    out: Path
    resume: bool = False
    world_size: int | None = None
    device: str | None = None
    workers: int = 0
    tensorboard: bool = True


def train_images(settings: Settings, options: Options, console: Console) -> Outcome | None:
    """Train, fold, verify and write, or go on where it was; words and bars go to `console`, from the first process.

    Returns None in the other processes. Raises what `Session` and `finish` raise.
    """
    with _ending_in_order(), quiet():
        world = open_world(options.world_size, options.device)
        voice = _Voice(console if world.first else Console(quiet=True), settings)
        try:
            return _train(settings, options, world, voice)
        finally:
            world.close()


def _train(settings: Settings, options: Options, world: World, voice: _Voice) -> Outcome | None:
    with voice.pictures() as on_picture, world.together():
        session = Session(
            settings,
            options.out,
            world=world,
            resume=options.resume,
            workers=options.workers,
            tensorboard=options.tensorboard,
            tell=voice.say,
            on_picture=on_picture,
        )
    try:
        voice.introduce(session)
        with voice.epochs(session) as (on_epoch, on_step):
            session.train(on_epoch, on_step)
        with voice.console.status("") as status:
            outcome = finish(session, lambda what: status.update(f"{what} ..."))
            if outcome is not None and find_spec("matplotlib") is not None:
                records = [record.to_dict() for record in outcome.history]
                error = outcome.wrong_folded / outcome.test_images
                training_curves(session.folder.curves, voice.title, records, error)
        if outcome is not None:
            voice.conclude(session, outcome)
        return outcome
    finally:
        session.close()


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """torchrun ends the processes that are left by SIGTERM: that is then an interruption with a sentence."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    after = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except BaseException:
        # A process that is on its way out for the loss of another has its sentence still to say.
        after = signal.SIG_IGN if os.environ.get("WORLD_SIZE", "1") != "1" else after
        raise
    finally:
        signal.signal(signal.SIGTERM, after)


class _Voice:
    """All that is shown of a training."""

    def __init__(self, console: Console, settings: Settings) -> None:
        self.console, self.settings = console, settings
        wide = f" expanded by {Path(settings.expand).stem}" if settings.expand else ""
        self.title = f"{settings.model}{wide} on {settings.data}, seed {settings.seed}"

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal or self.console.quiet,
        )

    @contextmanager
    def pictures(self) -> Iterator[Any]:
        """A bar while pictures are read."""
        with self._progress() as bars:
            tasks: list[Any] = []

            def on_picture(done: int, of: int) -> None:
                if not tasks:
                    tasks.append(bars.add_task("reading pictures", total=of))
                bars.update(tasks[0], completed=done)

            yield on_picture

    @contextmanager
    def epochs(self, session: Session) -> Iterator[Any]:
        """A bar of epochs and one of steps; a line for each epoch stays."""
        with self._progress() as bars:
            whole = bars.add_task("epochs", total=self.settings.epochs, completed=session.epoch)
            steps = bars.add_task("steps", total=session.learner.steps)

            def on_epoch(record: EpochRecord) -> None:
                bars.update(whole, completed=record.epoch)
                bars.reset(steps)
                self.say(
                    f"epoch {record.epoch:>{len(str(self.settings.epochs))}}/{self.settings.epochs}  "
                    f"loss {record.train_loss:.4f}  training error {100 * record.train_error:.2f} %  "
                    f"test error {100 * record.test_error:.2f} %  {record.images_per_second:,.0f} images/s"
                )

            yield on_epoch, lambda done, of: bars.update(steps, completed=done)

    def introduce(self, session: Session) -> None:
        """What is trained, on what, and how."""
        images, built, learner, world = session.images, session.built, session.learner, session.world
        self.say(self.title)
        view = built.view
        shape = "x".join(map(str, view.shape))
        self.say(
            f"{len(images.train):,} images to train on, {len(images.test):,} to test on, "
            f"{len(images.classes)} classes, shown as {shape}; "
            f"augmentation {view.augment}{' and flips' if view.flip else ''}"
        )
        if images.left_out:
            named = ", ".join(images.left_out[:5]) + (" ..." if len(images.left_out) > 5 else "")
            what = "picture cannot be read and is" if len(images.left_out) == 1 else "pictures cannot be read and are"
            self.say(f"{len(images.left_out)} {what} left out: {named}")
        if built.start is not None:
            start = "these weights" if self.settings.weights else "its own start"
            self.say(
                f"expanded without a change of function from {start}: error {built.start.error:.1e}, "
                f"bound {built.start.bound:.1e}"
            )
        if built.modes:
            modes = sorted(set(built.modes.values()))
            counts = ", ".join(f"{list(built.modes.values()).count(mode)} in {mode} mode" for mode in modes)
            self.say(f"blocks that can train in either mode: {counts}")
        for note in built.notes:
            self.say(note)
        if learner.unsynchronised:
            self.say(f"batch statistics are each process's own in {', '.join(learner.unsynchronised[:4])}")
        shares = f"{world.size} processes" if world.size > 1 else "one process"
        self.say(f"{learner.steps} steps of {learner.batch} images per epoch, {shares} on {world.device.type}")

    def conclude(self, session: Session, outcome: Outcome) -> None:
        """What came of it: equality, predictions, costs, files."""
        self.say(f"\nfolded: {str(outcome.certificate).splitlines()[0]}")
        self.say(
            f"test error {100 * outcome.wrong_trained / outcome.test_images:.2f} % as trained, "
            f"{100 * outcome.wrong_folded / outcome.test_images:.2f} % folded; {outcome.changed} of "
            f"{outcome.test_images:,} predictions changed"
        )
        table = Table(
            title="What shipping costs, for one image", box=SIMPLE_HEAD, show_edge=False, title_justify="left"
        )
        table.add_column("")
        for head in _COSTS.values():
            table.add_column(head, justify="right")
        for name, cost in outcome.costs.items():
            words = {"named": "the model as it was named"}.get(name, name)
            table.add_row(words, *(f"{cost[key]:,}" for key in _COSTS))
        self.console.print(table)
        self.say(f"folded.onnx: {outcome.onnx}")
        present = [p.name for p in _files(session) if p.exists()]
        self.say(f"in {session.folder.root}: {', '.join(present)}")


def _files(session: Session) -> list[Path]:
    f = session.folder
    return [f.final, f.folded, f.plan, f.onnx, f.result, f.metrics, f.curves, f.checkpoint, f.tensorboard]
