"""Spatially separable convolution: a K x 1 kernel, then a 1 x K one.

Rigamonti et al., "Learning Separable Filters", CVPR 2013; Jaderberg et al., "Speeding up Convolutional Neural Networks
with Low Rank Expansions", BMVC 2014, arXiv 1405.3866; Szegedy et al., "Rethinking the Inception Architecture",
CVPR 2016, arXiv 1512.00567.
"""

from __future__ import annotations

from torch import nn

from convfold.algebra import Op, chain_of
from convfold.geometry.groups import check_groups
from convfold.layers.axes import Axiswise
from convfold.layers.base import check_count, unit_gain

__all__ = [
    "SpatiallySeparable",
    "SpatiallySeparableConv1d",
    "SpatiallySeparableConv2d",
    "SpatiallySeparableConv3d",
]


class SpatiallySeparable(Axiswise):
    """``y = W_2 * (W_1 * x) + b``: a dense kernel along each axis in turn, all channels mixed by each.

    One kernel ``K[o, i, u, v] = sum_m W_2[o, m, v] W_1[m, i, u]``: the matrix ((o, v), (i, u)) has rank at most
    M = `mid_channels` (default C_out), so M = min(C_out*k_2, C_in*k_1) reaches every convolution. In 3-D there are
    three kernels and M channels between each two. Each kernel has the stride, the padding and the dilation of its
    axis, all have the groups g, the last has the bias. With one axis only (1-D, or a flat kernel) it is the plain
    convolution.

    Cost per sample, P_a positions after the kernel of axis a with k_a taps: 2-D MACs
    ``P_1*k_1*C_in*M/g + P_2*k_2*M*C_out/g``; parameters ``(k_1*C_in + k_2*C_out)*M/g``, C_out more with a bias.
    """

    name = "spatially_separable"

    def _build(self, *, mid_channels: int | None = None) -> None:
        middle = self.out_channels if mid_channels is None else check_count(mid_channels, "mid_channels", self)
        check_groups(self.in_channels, middle, self.groups)
        self.mid_channels = middle
        self._keep_order()
        axes = self._own_axes()
        widths = [self.in_channels, *[middle] * (len(axes) - 1), self.out_channels]
        self.axes = nn.ModuleList(
            self._along(axis, widths[n], widths[n + 1], bias=self._bias and axis == axes[-1])
            for n, axis in enumerate(axes)
        )
        for module in self.axes[:-1]:
            unit_gain(module)

    def _own_axes(self) -> list[int]:
        # Without any axis to run along, one kernel of one tap still mixes the channels.
        return super()._own_axes() or [0]

    def op(self) -> Op:
        return chain_of(*self._chained())


class SpatiallySeparableConv1d(SpatiallySeparable):
    dims = 1


class SpatiallySeparableConv2d(SpatiallySeparable):
    dims = 2


class SpatiallySeparableConv3d(SpatiallySeparable):
    dims = 3
