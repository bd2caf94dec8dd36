"""Small models for the command line: folded and not, in other sizes, with an operator that nobody can count."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    def __init__(self, channels: int, branches: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.side = nn.Conv2d(channels, channels, 1) if branches else None
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.act(y if self.side is None else y + self.side(x))


def net(branches: bool = True, classes: int = 10, channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(channels, 8, 3, stride=2, bias=False),
        nn.BatchNorm2d(8),
        Block(8, branches),
        Block(8, branches),
    ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))


def plain() -> nn.Module:
    return net(branches=False)


def grey() -> nn.Module:
    return net(channels=1)


class Odd(nn.Module):
    """Inverts a matrix: no formula tells what that takes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y + torch.linalg.svdvals(y).sum()


def odd() -> nn.Module:
    return Odd()
