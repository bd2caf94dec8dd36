"""What backbone, neck and head are built of: convolution, batch normalisation and ReLU, and stacks of them."""

from __future__ import annotations

from math import ceil

from torch import nn

from convfold.errors import InvalidArgument

__all__ = ["conv_unit", "repeats", "stack", "width_of"]


def conv_unit(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """``relu(BN(conv(x)))`` with half padding: H -> ceil(H / stride) for an odd kernel."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def stack(inputs: int, outputs: int, count: int) -> nn.Sequential:
    """`count` 3x3 units, the first of which changes the number of channels (YOLOv6's RepBlock, written plainly)."""
    return nn.Sequential(*(conv_unit(inputs if place == 0 else outputs, outputs) for place in range(count)))


def width_of(channels: int, width: float) -> int:
    """Channels at a width factor, rounded up to eights. Raises InvalidArgument for a factor that is not positive."""
    if not width > 0:
        raise InvalidArgument("a width factor scales channels", where="width", got=width, expected="more than 0")
    return ceil(channels * width / 8) * 8


def repeats(count: int, depth: float) -> int:
    """Units of a stack at a depth factor, one at least. Raises InvalidArgument for a factor that is not positive."""
    if not depth > 0:
        raise InvalidArgument("a depth factor scales stacks", where="depth", got=depth, expected="more than 0")
    return max(1, round(count * depth))
