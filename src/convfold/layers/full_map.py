"""Full-map convolution: the kernel is the whole map, a fully connected layer in another form.

Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, arXiv 1411.4038.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from convfold.algebra import Conv, as_full_map, kernel
from convfold.algebra import op as read
from convfold.algebra.readings.module import as_module
from convfold.errors import InvalidArgument
from convfold.geometry import has_padding
from convfold.layers.single import Single

__all__ = ["FullMap", "FullMapConv1d", "FullMapConv2d", "FullMapConv3d"]


class FullMap(Single):
    """``y[o] = b[o] + sum_{i, j} W[o, i, j] x[i, j]``: every output reads the whole map.

    kernel_size is the size of the map; input (N, C_in, *kernel_size), output (N, C_out, 1...). The same function as
    flattening and a Linear with the same numbers: `from_linear` and `as_linear` turn one into the other. On a larger
    map it slides, as in fully convolutional networks. Padding and dilation would make it another layer and
    are refused.

    Cost per sample, T = prod(kernel_size), on a map of that size: MACs and parameters ``T*C_in*C_out/g``, C_out
    parameters more with a bias.
    """

    name = "full_map"

    def _build(self) -> None:
        if has_padding(self.window) or any(d != 1 for d in self.dilation):
            raise InvalidArgument(
                "the kernel of a full-map convolution is the map itself",
                where=type(self).__name__,
                got=f"padding={self.padding!r}, dilation={self.dilation}",
                expected="padding 0 and dilation 1",
                hint="nn.Conv pads and dilates.",
            )
        super()._build()

    @classmethod
    def from_linear(cls, linear: nn.Linear, channels: int, size: tuple[int, ...]) -> Any:
        """The layer that computes ``linear(x.flatten(1))`` for x of shape (N, channels, *size), weights copied.

        Raises InvalidArgument where the Linear does not read such maps, NotFoldable where the module is no Linear.
        """
        found = read(linear)
        conv = as_full_map(found if isinstance(found, Conv) else kernel(found), channels, tuple(size))  # type: ignore[arg-type]
        placement: dict[str, Any] = {"device": conv.weight.device, "dtype": conv.weight.dtype}
        layer = cls(channels, conv.out_channels, tuple(size), bias=conv.bias is not None, **placement)
        with torch.no_grad():
            layer.conv.weight.copy_(conv.weight)  # type: ignore[operator]
            if conv.bias is not None:
                layer.conv.bias.copy_(conv.bias)  # type: ignore[operator]
        return layer.train(linear.training)

    def as_linear(self) -> nn.Module:
        """The ``nn.Linear`` (with groups a `GroupedLinear`) that computes the same from ``x.flatten(1)``."""
        conv = kernel(self.op())
        return as_module(Conv(conv.weight.flatten(1), conv.bias, (), conv.groups)).train(self.training)


class FullMapConv1d(FullMap):
    dims = 1


class FullMapConv2d(FullMap):
    dims = 2


class FullMapConv3d(FullMap):
    dims = 3
