"""Grouped convolution and channel shuffle.

Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices", CVPR 2018,
arXiv 1707.01083.
"""

from __future__ import annotations

from convfold.algebra import Op, Select
from convfold.layers.base import LinearLayer

__all__ = ["Shuffle", "ShuffleConv1d", "ShuffleConv2d", "ShuffleConv3d"]


class Shuffle(LinearLayer):
    """``y = S(W * x + b)``: a convolution in g groups, whose outputs are dealt out over the groups that follow.

    ``S(z)[j*g + q] = z[q*C_out/g + j]``: output j of group q goes to place (j, q), so each of g groups behind reads
    from every group before, which groups after groups alone never do. With kernel_size 1 it is the pointwise-grouped
    convolution with channel shuffle. One convolution of g permuted groups: folded, a dense one with zeros.

    Cost per sample, T taps, P output positions: MACs ``P*T*C_in*C_out/g``; parameters ``T*C_in*C_out/g``, C_out more
    with a bias.
    """

    name = "shuffle"

    def _build(self) -> None:
        self.conv = self._inner(
            self.in_channels, self.out_channels, self.kernel_size, bias=self._bias, **self._at_window()
        )

    def op(self) -> Op:
        conv = self._placed(self.conv, self.pads)
        return conv if self.groups == 1 else conv >> Select.shuffle(self.out_channels, self.groups, self.dims)


class ShuffleConv1d(Shuffle):
    dims = 1


class ShuffleConv2d(Shuffle):
    dims = 2


class ShuffleConv3d(Shuffle):
    dims = 3
