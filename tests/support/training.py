"""Small networks, pictures and commands for the tests of training."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["ROOT", "TINY", "command", "launch", "pictures", "shown", "tiny", "torchrun", "workers_of"]

ROOT = Path(__file__).resolve().parents[2]
TINY = "support.training:tiny"


def tiny(num_classes: int = 10, channels: int = 1) -> nn.Sequential:
    """Two convolutions, batch normalisation and a head: an epoch of digits in a fraction of a second."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )


def dropping(num_classes: int = 10) -> nn.Sequential:
    """The same with dropout, which draws from the global generator."""
    return nn.Sequential(nn.Dropout(0.2), *tiny(num_classes))


def pictures(folder: Path, classes: Sequence[str] = ("cat", "dog"), count: int = 6, size: int = 12) -> Path:
    """`count` colour pictures of each class, its own brightness and noise on it."""
    from PIL import Image

    chance = torch.Generator().manual_seed(0)
    for level, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = torch.randint(60, (size, size, 3), generator=chance) + 120 * level
            picture = Image.frombytes("RGB", (size, size), bytes(noise.to(torch.uint8).flatten().tolist()))
            picture.save(folder / name / f"{number}.png")
    return folder


def command(*arguments: str) -> list[str]:
    """``convfold train``, in a process of its own."""
    return [sys.executable, "-m", "convfold", "train", *arguments, "--no-tensorboard"]


def torchrun(processes: int, *arguments: str) -> list[str]:
    """The same in several processes of this machine."""
    run = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, "-m", *run, "-m", *command(*arguments)[2:]]


def shown(words: Sequence[str]) -> str:
    """The same as a person would type it."""
    return shlex.join(["python", *words[1:]])


def workers_of(launcher: int, until: Path) -> list[int]:
    """The processes that torchrun started, by rank, once the file `until` is there."""
    while not until.exists():
        time.sleep(0.05)
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == launcher:
                found.append(int(stat.parent.name))
    return sorted(found)


def launch(words: Sequence[str], **more: object) -> subprocess.Popen[str]:
    """Start it with one thread, the factories of this file within reach, in a session that can be killed as a whole."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "tests")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(words, env=environment, **{**pipes, **more})  # type: ignore[call-overload,no-any-return]


def linear(num_classes: int = 10) -> nn.Sequential:
    """No batch statistics: images of a step do not see one another."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_classes))


def coloured(num_classes: int = 10) -> nn.Sequential:
    """For colours."""
    return tiny(num_classes, 3)


def unsized() -> nn.Sequential:
    """A factory that does not ask for the number of classes."""
    return tiny()


def wide(num_classes: int = 10) -> nn.Sequential:
    """A factory that does not heed it."""
    return tiny(7)


class Indexed(nn.Module):
    """Whole numbers among its buffers, as an attention's table of positions."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.inner = tiny(num_classes)
        self.register_buffer("places", torch.arange(100))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)  # type: ignore[no-any-return]


def indexed(num_classes: int = 10) -> Indexed:
    """As timm's Swin."""
    return Indexed(num_classes)


class Twofold(nn.Module):
    """Scores, and in training those of a second head too."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.inner = tiny(num_classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        scores = self.inner(x)
        return (scores, scores) if self.training else scores


def twofold(num_classes: int = 10) -> Twofold:
    """As torchvision's GoogLeNet."""
    return Twofold(num_classes)
