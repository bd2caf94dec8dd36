"""DO-Conv: a depthwise kernel over a conventional one.

Cao et al., "DO-Conv: Depthwise Over-parameterized Convolutional Layer", IEEE TIP 2022, arXiv 2006.12030.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from convfold.algebra import Conv, Op
from convfold.blocks.base import Block, start_conv
from convfold.errors import InvalidArgument

__all__ = ["DOConv", "DOConv1d", "DOConv2d", "DOConv3d"]


class DOConv(Block):
    """``y = W x (D o P)``: a depthwise convolution with D, then a 1x1 with W; equally ``K = D^T o W``, one kernel.

    ``K[o, i, m] = sum_s (D + E)[c(o,i), m, s] * W[o, i, s]`` with c(o,i) the input channel that i names in the
    group of o. D has shape (C_in, M, D_mul), M the taps of the kernel, and starts at zero over the fixed
    identity E; W starts as torch's convolution does. groups = 1 is DO-Conv, groups = C_in is DO-DConv, others
    DO-GConv. A kernel of one tap has no D.

    `D_mul` (default M) must reach M: below it not every kernel can be written, and the block raises
    InvalidArgument unless `allow_rank_deficient`, with D then started as a depthwise convolution.
    """

    name = "doconv"
    over: Tensor

    def _build(self, *, D_mul: int | None = None, allow_rank_deficient: bool = False) -> None:
        taps = math.prod(self.kernel_size)
        multiplier = taps if D_mul is None or taps == 1 else D_mul
        if not isinstance(multiplier, int) or multiplier < 1 or (multiplier < taps and not allow_rank_deficient):
            raise InvalidArgument(
                "D_mul is smaller than the kernel",
                where=type(self).__name__,
                got=f"D_mul={D_mul} for a kernel of {taps} taps",
                expected=f"at least {taps}",
                hint="Fewer than all kernels could be written; pass allow_rank_deficient=True to have it so.",
            )
        self.D_mul = multiplier
        one = (1,) * self.dims
        if taps == 1:
            self.depth: nn.Parameter | None = None
            self.conv = self._inner(self.in_channels, self.out_channels, one, bias=self._bias, stride=self.stride)
            return
        self.conv = self._inner(self.in_channels * multiplier, self.out_channels, one, bias=self._bias)
        self.depth = nn.Parameter(torch.zeros(self.in_channels, taps, multiplier, **self._placement))
        copies = torch.eye(taps, **self._placement).repeat(1, multiplier // taps)
        over = torch.cat([copies, copies.new_zeros(taps, multiplier % taps)], dim=1)
        self.register_buffer("over", over, persistent=False)
        if multiplier < taps:
            bound = 1 / math.sqrt(taps)
            nn.init.uniform_(self.depth, -bound, bound)

    def op(self) -> Op:
        if self.depth is None:
            return self._placed(self.conv, self.pads)
        kernels = (self.depth + self.over).transpose(1, 2).reshape(-1, 1, *self.kernel_size)
        depthwise = Conv(kernels, None, self.window, self.in_channels, self.padding_mode)
        return depthwise >> self._placed(self.conv, ((0, 0),) * self.dims)

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """``D = 0`` and W holds the kernel in its first copy: ``K = E^T o W``."""
        self._refuse_norm(norm)
        if self.depth is None:
            start_conv(self.conv, weight, bias)
            return
        taps = math.prod(self.kernel_size)
        if self.D_mul < taps:
            raise InvalidArgument(
                "a rank-deficient block cannot start from a given kernel",
                got=f"D_mul={self.D_mul}",
                expected=f"at least {taps}",
            )
        spread = weight.new_zeros(*weight.shape[:2], self.D_mul)
        spread[..., :taps] = weight.detach().flatten(2)
        with torch.no_grad():
            self.depth.zero_()
        start_conv(self.conv, spread.reshape(self.out_channels, -1, *(1,) * self.dims), bias)


class DOConv1d(DOConv):
    dims = 1


class DOConv2d(DOConv):
    dims = 2


class DOConv3d(DOConv):
    dims = 3
