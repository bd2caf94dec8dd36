"""Networks to expand and fold: torchvision's, and a U-Net with transposed convolutions; statistics never fresh."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convfold.zoo import import_torchvision
from support.make import randomise

__all__ = ["UNet", "mobilenet", "noise", "randomise_gently", "relative", "resnet", "seeded", "short_resnet"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randomise_gently(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random batch norms (negative factors, one small variance, means, shifts) and biases, for a network of depth.

    Factors stay near one in size, so that twenty layers neither vanish nor explode.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                signs = torch.ones(module.num_features, dtype=torch.float64)
                signs[::3] = -1
                module.weight.copy_(signs * uniform(module.weight, 0.5, 1.5))
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
                module.running_mean.copy_(uniform(module.running_mean, -0.5, 0.5))
                module.running_var.copy_(uniform(module.running_var, 0.5, 2.0))
                module.running_var[0] = 0.02
            elif getattr(module, "bias", None) is not None:
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
    return model


def resnet() -> nn.Module:
    model = import_torchvision().models.resnet18(num_classes=5)
    return randomise_gently(model.double())


def short_resnet() -> nn.Module:
    """ResNet-18 without its last stage, which holds three quarters of its parameters."""
    model = import_torchvision().models.resnet18(num_classes=5)
    model.layer4, model.fc = nn.Identity(), nn.Linear(256, 5)
    return randomise_gently(model.double())


def mobilenet() -> nn.Module:
    model = import_torchvision().models.mobilenet_v2(num_classes=5, width_mult=0.35, dropout=0.0)
    return randomise_gently(model.double())


class Double(nn.Module):
    """Conv, norm, ReLU, twice. The norms are registered before the convolutions, on purpose."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm2 = nn.BatchNorm2d(outputs)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


class UNet(nn.Module):
    """Two levels; transposed convolutions with a batch norm after them on the way up."""

    def __init__(self, width: int = 4, outputs: int = 2) -> None:
        super().__init__()
        self.down1, self.down2 = Double(3, width), Double(width, 2 * width)
        self.bottom = Double(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.up2_norm = nn.BatchNorm2d(2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 3, stride=2, padding=1, output_padding=1, bias=False)
        self.up1_norm = nn.BatchNorm2d(width)
        self.join2, self.join1 = Double(4 * width, 2 * width), Double(2 * width, width)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(nn.functional.max_pool2d(first, 2))
        y = self.bottom(nn.functional.max_pool2d(second, 2))
        y = self.join2(torch.cat([self.up2_norm(self.up2(y)), second], 1))
        y = self.join1(torch.cat([self.up1_norm(self.up1(y)), first], 1))
        return self.head(y)


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert a.shape == b.shape
    assert bool(torch.isfinite(a).all() and torch.isfinite(b).all())
    return ((a - b).abs().max() / b.abs().max()).item()


def seeded(model: Any, seed: int = 0) -> Any:
    """The model in float64 and eval mode, every parameter and statistic at random."""
    return randomise(model.double(), torch.Generator().manual_seed(seed)).eval()
