"""The folder of a training: one training writes in it, and what a killed one left is swept."""

from __future__ import annotations

import errno
import multiprocessing as mp
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.training import TINY

pytest.importorskip("sklearn")

from convfold.errors import FileProblem
from convfold.train import Session, Settings
from convfold.train.checkpoint import read_checkpoint
from convfold.train.folder import Folder

SHORT = Settings("digits", TINY, epochs=3, batch_size=128)


def test_two_trainings_do_not_write_in_one_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first = Session(SHORT, tmp_path)
    with pytest.raises(FileProblem, match=r"another training writes here\. Wait for it, or choose another folder"):
        Session(SHORT, tmp_path, resume=True)
    first.close()
    Session(SHORT, tmp_path, resume=True).close()


def test_what_a_kill_left_half_written_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint-123.safetensors").write_bytes(b"half")
    (tmp_path / ".mine").write_text("kept")
    Session(SHORT, tmp_path).close()
    assert not (tmp_path / ".checkpoint-123.safetensors").exists()
    assert (tmp_path / ".mine").exists()


def test_a_reader_that_outlives_a_killed_training_does_not_hold_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    first = Folder(tmp_path)
    first.open()
    ours, theirs = mp.get_context("fork").Pipe()
    reader = mp.get_context("fork").Process(target=lambda: (theirs.send("here"), time.sleep(60)))
    reader.start()
    assert ours.recv() == "here"
    first.close()
    try:
        second = Folder(tmp_path)
        second.open()
        second.close()
    finally:
        reader.kill()
        reader.join()


def test_a_file_system_without_locks_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none_here(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none_here)
    folder = Folder(tmp_path)
    folder.open()
    folder.close()


def test_a_log_that_cannot_be_written_has_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A writer, of tensorboard's words, on a full disk."""

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def add_scalar(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        close = add_scalar

    if find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Full))
    session = Session(SHORT, tmp_path, tensorboard=True)
    sentence = r"tensorboard: cannot write \(no space left on device\)\. Make room and --resume, or do without it:"
    with pytest.raises(FileProblem, match=sentence):
        session.train()
    session.close()
    assert read_checkpoint(tmp_path / "checkpoint.safetensors").epoch == 1


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileProblem, match="cannot write"):
        Session(SHORT, tmp_path / "file")
