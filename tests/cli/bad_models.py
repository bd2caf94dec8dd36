"""Models and files that the command line must refuse, or fold in part, in one sentence."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2))


class Branching(nn.Module):
    """What it executes depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.body = plain()

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return y * 2 if y.mean() > 0 else y


class Stubborn(nn.BatchNorm2d):
    """Its eval() leaves it in training mode."""

    def train(self, mode: bool = True) -> nn.Module:
        return super().train(True)


class Words(nn.Module):
    """It takes indices."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)

    def forward(self, indices: Tensor) -> Tensor:
        return self.table(indices)


def stubborn() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), Stubborn(4))


def meta() -> nn.Module:
    with torch.device("meta"):
        return plain()


def sparse() -> nn.Module:
    model = plain()
    model[4].weight = nn.Parameter(model[4].weight.detach().to_sparse(), requires_grad=False)
    return model


def quantised() -> nn.Module:
    model = plain()
    model[0].register_buffer("codes", torch.quantize_per_tensor(torch.randn(4), 0.1, 0, torch.qint8))
    return model


def diverged() -> nn.Module:
    model = plain()
    with torch.no_grad():
        model[0].weight[0] = float("nan")
    return model
