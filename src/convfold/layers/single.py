"""Layers of one kernel: convolutions that have a name of their own."""

from __future__ import annotations

from typing import ClassVar

import torch

from convfold.algebra import Op
from convfold.blocks.nesting import ConvFactory
from convfold.errors import InvalidArgument
from convfold.layers.base import LinearLayer

__all__ = [
    "DilatedConv1d",
    "DilatedConv2d",
    "DilatedConv3d",
    "PointwiseConv1d",
    "PointwiseConv2d",
    "PointwiseConv3d",
    "Single",
]


class Single(LinearLayer):
    """``y = W * x + b``, W built as `conv` says."""

    def _build(self) -> None:
        self.conv = self._inner(
            self.in_channels, self.out_channels, self.kernel_size, bias=self._bias, **self._at_window()
        )

    def op(self) -> Op:
        return self._placed(self.conv, self.pads)


class Dilated(Single):
    """``y[o, p] = b[o] + sum_{i, j} W[o, i, j] x[i, p + d*j]``: taps that lie d positions apart.

    A kernel of k taps sees ``d*(k - 1) + 1`` positions (`receptive_field`) for the price of k. `dilation` is 2 and
    `padding` "same" by default, which keeps the size of the map; with a stride, name the padding. In a stack let the
    dilations grow without a common factor (1, 2, 5, ...): equal ones leave a grid of inputs unread.

    Cost per sample, T taps, P output positions: MACs ``P*T*C_in*C_out/g``; parameters ``T*C_in*C_out/g``, C_out more
    with a bias: those of the undilated convolution. Yu and Koltun, "Multi-Scale Context Aggregation by Dilated
    Convolutions", ICLR 2016, arXiv 1511.07122; on stacks, Wang et al., WACV 2018, arXiv 1702.08502.
    """

    name = "dilated"
    default_dilation: ClassVar[int] = 2
    default_padding: ClassVar[int | str] = "same"


class DilatedConv1d(Dilated):
    dims = 1


class DilatedConv2d(Dilated):
    dims = 2


class DilatedConv3d(Dilated):
    dims = 3


class Pointwise(Single):
    """``y[o, p] = b[o] + sum_i W[o, i] x[i, s*p]``: a fully connected layer over the channels of every position.

    kernel_size is 1, and need not be named. With groups g it is the pointwise-grouped convolution (with a channel
    shuffle behind it: `ShuffleConv` with kernel_size 1).

    Cost per sample, P output positions: MACs ``P*C_in*C_out/g``; parameters ``C_in*C_out/g``, C_out more with a bias.
    Lin et al., "Network In Network", ICLR 2014, arXiv 1312.4400.
    """

    name = "pointwise"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...] = 1,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str | None = None,
        dilation: int | tuple[int, ...] | None = None,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        conv: ConvFactory = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            conv=conv,
        )

    def _build(self) -> None:
        if any(k != 1 for k in self.kernel_size):
            raise InvalidArgument(
                "a pointwise convolution has one tap",
                where=type(self).__name__,
                got=f"kernel_size {self.kernel_size}",
                expected=1,
            )
        super()._build()


class PointwiseConv1d(Pointwise):
    dims = 1


class PointwiseConv2d(Pointwise):
    dims = 2


class PointwiseConv3d(Pointwise):
    dims = 3
