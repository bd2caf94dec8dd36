"""A small detector with statistics at random, at a scale on which no channel hides another."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convfold.train.networks import detector
from support.make import randomise

__all__ = ["drawn", "small"]


def small(**options: Any) -> nn.Module:
    """Three classes, few channels, and one or two convolutions in each stack; in float64."""
    torch.manual_seed(0)
    return detector(3, **{"width": 0.06, "depth": 0.1, **options}).double()


def drawn(model: nn.Module) -> nn.Module:
    """In eval mode, with random statistics and factors of both signs, in place."""
    randomise(model, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.div_(module.weight[0].numel() ** 0.5)
            if isinstance(module, nn.BatchNorm2d) and module.running_var is not None:
                module.running_var.clamp_(min=0.3)
    return model.eval()
