"""Depthwise separable convolution: each channel under kernels of its own, then a mix of the channels.

Sifre, "Rigid-Motion Scattering for Image Classification", PhD thesis, 2014; Howard et al., "MobileNets: Efficient
Convolutional Neural Networks for Mobile Vision Applications", 2017, arXiv 1704.04861; Chollet, "Xception", CVPR 2017,
arXiv 1610.02357.
"""

from __future__ import annotations

from convfold.algebra import Op
from convfold.layers.base import LinearLayer, check_count, unit_gain

__all__ = [
    "DepthwiseSeparable",
    "DepthwiseSeparableConv1d",
    "DepthwiseSeparableConv2d",
    "DepthwiseSeparableConv3d",
]


class DepthwiseSeparable(LinearLayer):
    """``y = W * (D * x) + b``: r kernels per input channel, then a 1x1.

    One kernel ``K[o, i, j] = sum_s W[o, i, s] D[i, s, j]``: per input channel i the matrix (o, j) has rank at most
    r = `depth_multiplier`, so r = min(C_out/g, taps) reaches every convolution, and r = 1 those whose kernels are, per
    input channel, multiples of one. D (C_in*r, 1, *kernel) has the stride, the padding and the dilation; W
    (C_out, C_in*r/g, 1...) has the bias and the groups g. It is DO-Conv's feature composition with D_mul = r.

    Cost per sample, T taps, P output positions: MACs ``P*C_in*r*(T + C_out/g)``, for r = g = 1 a share of
    ``1/C_out + 1/T`` of the convolution's; parameters ``C_in*r*(T + C_out/g)``, C_out more with a bias.
    """

    name = "depthwise_separable"

    def _build(self, *, depth_multiplier: int = 1) -> None:
        self.depth_multiplier = check_count(depth_multiplier, "depth_multiplier", self)
        middle = self.in_channels * self.depth_multiplier
        self.depthwise = unit_gain(
            self._inner(self.in_channels, middle, self.kernel_size, groups=self.in_channels, **self._at_window())
        )
        self.pointwise = self._plain(middle, self.out_channels, self._one, bias=self._bias)

    def op(self) -> Op:
        return self._placed(self.depthwise, self.pads) >> self._placed(self.pointwise, self._no_pads)


class DepthwiseSeparableConv1d(DepthwiseSeparable):
    dims = 1


class DepthwiseSeparableConv2d(DepthwiseSeparable):
    dims = 2


class DepthwiseSeparableConv3d(DepthwiseSeparable):
    dims = 3
