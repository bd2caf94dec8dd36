"""Small pictures to learn from, as tensors and as files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from convfold.train.sr import Picture


def picture(name: str, height: int = 40, width: int = 48, channels: int = 1) -> Picture:
    """Smooth waves with an edge, drawn from the name."""
    drawn = torch.Generator().manual_seed(sum(name.encode()))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    planes = []
    for _ in range(channels):
        a, b, c = torch.rand(3, generator=drawn)
        wave = 0.5 + 0.3 * torch.sin(rows * (0.2 + 0.3 * a) + columns * (0.2 + 0.3 * b))
        planes.append(torch.where(rows + columns < 40 * (1 + c), wave, 1 - wave))
    return Picture(name, torch.stack(planes).float())


def save(path: Path, shown: Picture) -> Path:
    values = (shown.tensor * 255).round().to(torch.uint8)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(values)]
    size = values.shape[:0:-1]
    Image.frombytes(mode, tuple(size), values.permute(1, 2, 0).contiguous().numpy().tobytes()).save(path)
    return path


def folder(path: Path, count: int = 5) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        save(path / f"{number}.png", picture(str(number), channels=3))
    return path
