"""Records of epochs for TensorBoard, where that is installed."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convfold.errors import FileProblem
from convfold.train.learner import EpochRecord

__all__ = ["Watch"]


class Watch:
    """Writes to `folder` while `on`. What a killed training logged after `epoch` is hidden by TensorBoard."""

    def __init__(self, folder: Path, epoch: int, *, on: bool) -> None:
        self._folder = folder
        self._writer: Any = None
        if on and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

            self._writer = SummaryWriter(str(folder), purge_step=epoch + 1)

    def add(self, record: EpochRecord) -> None:
        """One point in each of its charts. Raises FileProblem."""
        if self._writer is None:
            return
        try:
            for name, value in record.to_dict().items():
                if name != "epoch":
                    chart = name.replace("train_", "train/").replace("test_", "test/")
                    self._writer.add_scalar(chart, value, record.epoch)
            self._writer.flush()
        except OSError as error:
            raise FileProblem(
                f"cannot write ({(error.strerror or type(error).__name__).lower()})",
                where=str(self._folder),
                hint="Make room and --resume, or do without it: --no-tensorboard.",
            ) from error

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            # A disk that is full was said when the last point was added.
            with suppress(OSError):
                self._writer.close()
