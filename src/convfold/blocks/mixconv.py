"""MixConv: kernels of several sizes, each on its share of the channels.

Tan and Le, "MixConv: Mixed Depthwise Convolutional Kernels", BMVC 2019, arXiv 1907.09595.
"""

from __future__ import annotations

from torch import nn

from convfold.algebra import Concat, Op, Select
from convfold.blocks.base import Block
from convfold.errors import InvalidArgument

__all__ = ["MixConv", "MixConv1d", "MixConv2d", "MixConv3d"]


class MixConv(Block):
    """``y = concat_j (W_j * x_j)``: part j of the channels under a kernel of its own size, centred in the largest.

    `kernel_sizes` (default 3, 5, ..., kernel_size) are square; the largest is `kernel_size`, for which
    `padding` counts. The channels are split evenly, what is left over goes to the first part. groups = 1 makes
    each part dense in itself, groups = in_channels makes all depthwise. Folds to one convolution under the
    largest kernel: more work, fewer operators; the cost gate of ``convfold.fold`` leaves it alone.
    """

    name = "mixconv"
    default_mode = "feature"

    def _build(self, *, kernel_sizes: tuple[int, ...] | None = None) -> None:
        largest = max(self.kernel_size)
        sizes = (*range(3, largest, 2), largest) if kernel_sizes is None else tuple(kernel_sizes)
        if not sizes or max(sizes) != largest or min(sizes) < 1 or len(set(self.kernel_size)) > 1:
            raise InvalidArgument(
                "the largest of kernel_sizes is not kernel_size",
                where=type(self).__name__,
                got=f"kernel_sizes={sizes} with kernel_size={self.kernel_size}",
                expected="square kernels, the largest first named as kernel_size",
            )
        if self.groups not in (1, self.in_channels) or len(sizes) > min(self.in_channels, self.out_channels):
            raise InvalidArgument(
                "the parts of mixconv are dense or depthwise, and none is empty",
                where=type(self).__name__,
                got=f"groups={self.groups}, {len(sizes)} parts for {self.in_channels} -> {self.out_channels} channels",
                expected=f"groups 1 or {self.in_channels}, as many channels as parts",
            )
        self.kernel_sizes = sizes
        multiplier = self.out_channels // self.in_channels if self.groups > 1 else 0
        self.inputs = _shares(self.in_channels, len(sizes))
        self.outputs = [multiplier * i for i in self.inputs] if multiplier else _shares(self.out_channels, len(sizes))
        self.parts = nn.ModuleList(
            self._inner(
                i,
                o,
                (size,) * self.dims,
                stride=self.stride,
                dilation=self.dilation,
                groups=i if self.groups > 1 else 1,
                bias=self._bias,
            )
            for i, o, size in zip(self.inputs, self.outputs, sizes, strict=True)
        )

    def op(self) -> Op:
        terms: list[Op] = []
        start = 0
        for module, width, size in zip(self.parts, self.inputs, self.kernel_sizes, strict=True):
            pads = self._centred((size,) * self.dims)
            share = Select.block(start, start + width, self.in_channels, self.dims)
            terms.append(share >> self._placed(module, pads))
            start += width
        return Concat(tuple(terms))


def _shares(channels: int, parts: int) -> list[int]:
    """``channels // parts`` each, what is left over to the first."""
    share = channels // parts
    return [channels - share * (parts - 1)] + [share] * (parts - 1)


class MixConv1d(MixConv):
    dims = 1


class MixConv2d(MixConv):
    dims = 2


class MixConv3d(MixConv):
    dims = 3
