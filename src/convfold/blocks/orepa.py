"""OREPA: branches composed in weight space, each under a learned factor per output channel.

Hu et al., "Online Convolutional Re-parameterization", CVPR 2022, arXiv 2204.00826.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, AvgPool, Conv, Op, chain_of, sum_of
from convfold.blocks.base import Block, start_conv
from convfold.blocks.identity import IdentityBased

__all__ = ["OREPA", "OREPAConv1d", "OREPAConv2d", "OREPAConv3d"]

EXPANSION = 8  # depthwise kernels per input channel in the last branch


class OREPA(Block):
    """``y = sum_j v_j[o] * (W_j * x)``, one convolution in kernel mode; a batch normalisation belongs after it.

    * W_0: k x k; * W_1: average over the window after a 1x1; * W_2: fixed cosines after a 1x1;
    * W_3: k x k after an identity-based 1x1; * W_4: 1x1; * W_5: depthwise k x k, 8 per input, then a 1x1.

    The cosines ``F[o, h] = cos(pi (h + 1/2) m / k)``, m = (o + 1) mod k, run along one axis per share of the outputs
    (halves in 2-D), so that no row vanishes identically, which m = k would. Under a 1x1 kernel W_0, W_3 and W_5
    remain. Kernels start from Kaiming's uniform distribution, those of W_5 by its square root, v as published:
    (1/4, 1/4, 0, 1/2, 1, 1/2).
    """

    name = "orepa"
    prior: Tensor

    def _build(self) -> None:
        inputs, outputs, one = self.in_channels, self.out_channels, (1,) * self.dims
        wide = any(k > 1 for k in self.kernel_size)
        window = {"stride": self.stride, "dilation": self.dilation}
        self.dense = self._inner(inputs, outputs, self.kernel_size, **window)
        self.average = self._plain(inputs, outputs, one) if wide else None
        self.cosine = self._plain(inputs, outputs, one) if wide else None
        self.squeeze = IdentityBased(inputs, self.groups, self.dims, **self._placement)
        self.chained = self._inner(inputs, outputs, self.kernel_size, **window)
        self.point = self._plain(inputs, outputs, one, stride=self.stride) if wide else None
        many = EXPANSION * inputs
        self.depthwise = self._plain(inputs, many, self.kernel_size, groups=inputs, **window)
        self.mixed = self._plain(many, outputs, one)
        self.bias: nn.Parameter | None = None
        if self._bias:
            self.bias = nn.Parameter(torch.zeros(outputs, **self._placement))
        factors = torch.tensor((0.25, 0.25, 0.0, 0.5, 1.0, 0.5), **self._placement)
        self.factors = nn.Parameter(factors.unsqueeze(1).repeat(1, outputs))
        # In the state, since its values are rounded in the precision in which the block was built.
        self.register_buffer("prior", self._cosines())
        self._reset()

    def _reset(self) -> None:
        for module in (self.dense, self.average, self.cosine, self.chained, self.point, self.depthwise, self.mixed):
            weight = getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter):
                nn.init.kaiming_uniform_(weight, a=0.0)

    def _cosines(self) -> Tensor:
        """(C_out, 1, *kernel): each share of the outputs varies along its own axis."""
        rows = torch.ones(self.out_channels, 1, *self.kernel_size, dtype=torch.float64)
        axes = [a for a, k in enumerate(self.kernel_size) if k > 1] or [0]
        share = math.ceil(self.out_channels / len(axes))
        for o in range(self.out_channels):
            axis = axes[o // share]
            k = self.kernel_size[axis]
            waves = torch.cos(math.pi * (torch.arange(k, dtype=torch.float64) + 0.5) * ((o % share + 1) % k) / k)
            rows[o, 0] *= waves.reshape([-1 if a == axis else 1 for a in range(self.dims)])
        return rows.to(**{"dtype": torch.get_default_dtype(), **{k: v for k, v in self._placement.items() if v}})

    def op(self) -> Op:
        first, then = self._split_pads(self.chained)
        before, after = self._split_pads()
        centre = self._centred((1,) * self.dims)
        terms: list[Op | None] = [
            self._scaled(0, self._placed(self.dense, self.pads)),
            self._scaled(3, self._placed(self.squeeze, first), self._placed(self.chained, then)),
            self._scaled(5, self._placed(self.depthwise, self.pads), self._placed(self.mixed, ((0, 0),) * self.dims)),
        ]
        if self.average is not None and self.cosine is not None and self.point is not None:
            window = self._window(after)
            pool = AvgPool(self.out_channels, window, self.padding_mode)
            cosines = Conv(self.prior, None, window, self.out_channels, self.padding_mode)
            terms += [
                self._scaled(1, self._placed(self.average, before), pool),
                self._scaled(2, self._placed(self.cosine, before), cosines),
                self._scaled(4, self._placed(self.point, centre)),
            ]
        shift = None if self.bias is None else Affine(None, self.bias, self.dims)
        return chain_of(sum_of(*terms), shift)

    def _scaled(self, branch: int, *parts: Op) -> Op:
        return chain_of(*parts, Affine(self.factors[branch], None, self.dims))

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """v = (1, 0, 0, 0, 0, 0) and W_0 the given kernel; every factor has a gradient at once."""
        self._refuse_norm(norm)
        start_conv(self.dense, weight)
        with torch.no_grad():
            self.factors.zero_()
            self.factors[0] = 1.0
            if self.bias is not None:
                self.bias.copy_(torch.zeros_like(self.bias) if bias is None else bias)


class OREPAConv1d(OREPA):
    dims = 1


class OREPAConv2d(OREPA):
    dims = 2


class OREPAConv3d(OREPA):
    dims = 3
