"""The plain network of the demo: three convolutions with batch normalisation, and a linear head."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["plain_cnn", "scale_gammas"]


def _stage(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def plain_cnn(num_classes: int = 10, width: int = 16) -> nn.Sequential:
    """A small CNN for grey images: three 3x3 convolutions with BN and ReLU, mean over the map, linear head.

    >>> import torch
    >>> plain_cnn()(torch.zeros(2, 1, 8, 8)).shape
    torch.Size([2, 10])
    """
    stages = [*_stage(1, width, 1), *_stage(width, 2 * width, 2), *_stage(2 * width, 2 * width, 1)]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, num_classes))


def scale_gammas(model: nn.Module, factor: float) -> nn.Module:
    """Multiply every batch-normalisation weight in `model` by `factor`, in place, and return `model`."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.affine:
                module.weight.mul_(factor)
    return model
