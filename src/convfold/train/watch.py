"""Records of epochs for TensorBoard, where that is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convfold.train.learner import EpochRecord

__all__ = ["Watch"]


class Watch:
    """Writes to `folder` while `on`. What a killed training logged after `epoch` is hidden by TensorBoard."""

    def __init__(self, folder: Path, epoch: int, *, on: bool) -> None:
        self._writer: Any = None
        if on and find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

            self._writer = SummaryWriter(str(folder), purge_step=epoch + 1)

    def add(self, record: EpochRecord) -> None:
        """One point in each of its charts."""
        if self._writer is None:
            return
        for name, value in record.to_dict().items():
            if name != "epoch":
                chart = name.replace("train_", "train/").replace("test_", "test/")
                self._writer.add_scalar(chart, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
