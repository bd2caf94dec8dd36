"""Small networks to drop blocks into: fronts of torchvision's and timm's, a U-Net, a super-resolution network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from convfold.zoo import import_torchvision

__all__ = ["NETWORKS", "lively", "noise"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lively(model: nn.Module, x: Tensor) -> nn.Module:
    """In float64, with random factors and biases, and the statistics of `x`: so no signal dies on the way."""
    generator = torch.Generator().manual_seed(7)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    model = model.double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.copy_(uniform(module.weight, 0.5, 1.5))
                module.weight[::3] *= -1
                module.momentum = 1.0
            if isinstance(getattr(module, "bias", None), Tensor):
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
        model.train()(x)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.1
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model.eval()


class UNet(nn.Module):
    """One level down and up, with a skip connection and a transposed convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.bottom = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.join = nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect")
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        return self.head(torch.relu(self.join(torch.cat([self.up(self.bottom(skip)), skip], 1))))


class SuperResolution(nn.Module):
    """Plain 3x3 convolutions with PReLU, without norms, and a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.body = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.acts = nn.ModuleList(nn.PReLU(8) for _ in range(3))
        self.last = nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.acts[0](self.first(x))
        for conv, act in zip(self.body, list(self.acts)[1:], strict=True):
            y = act(conv(y))
        return nn.functional.pixel_shuffle(self.last(y), 2) + nn.functional.interpolate(x, scale_factor=2)


def resnet() -> nn.Module:
    """ResNet-18 without its last two stages, which hold most of the weights and no other kind of layer."""
    model = import_torchvision().models.resnet18()
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(128, 4)
    return model


def mobilenet() -> nn.Module:
    """MobileNetV2's stem and first four blocks."""
    model = import_torchvision().models.mobilenet_v2(width_mult=0.35)
    model.features = model.features[:5]
    model.classifier = nn.Linear(model.features[-1].out_channels, 4)
    return model


def regnet() -> nn.Module:
    """RegNetX-200MF's stem and first two stages."""
    import_torchvision()
    import timm

    model = timm.create_model("regnetx_002")
    model.s3, model.s4 = nn.Identity(), nn.Identity()
    model.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(56, 4))
    return model


# Per network its input, the layers to expand, and the layer for the blocks that take a partition.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor, list[str], str]] = {
    "resnet18": (
        resnet,
        noise(2, 3, 32, 32),
        ["conv1", "layer1.0.conv1", "layer1.1.conv2", "layer2.0.conv1", "layer2.0.downsample.0"],
        "layer1.0.conv1",
    ),
    "mobilenet_v2": (
        mobilenet,
        noise(2, 3, 32, 32),
        ["features.0.0", "features.2.conv.1.0", "features.3.conv.1.0", "features.3.conv.2"],
        "features.3.conv.1.0",
    ),
    "regnetx_002": (
        regnet,
        noise(2, 3, 32, 32),
        ["stem.conv", "s1.b1.conv2.conv", "s2.b1.conv2.conv"],
        "s2.b1.conv3.conv",
    ),
    "unet": (UNet, noise(2, 3, 16, 16), ["down.0", "bottom.0", "join"], "join"),
    "super-resolution": (SuperResolution, noise(2, 1, 12, 16), ["first", "body.0", "body.1", "last"], "body.0"),
}
