"""Bottleneck: narrow by a 1x1, convolve, widen by a 1x1.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385; Sandler et al., "MobileNetV2:
Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv 1801.04381; Zhang et al., "ShuffleNet", CVPR 2018,
arXiv 1707.01083.
"""

from __future__ import annotations

from convfold.algebra import Op, Select, chain_of
from convfold.errors import InvalidArgument
from convfold.layers.base import LinearLayer, check_count, check_share, unit_gain

__all__ = ["Bottleneck", "BottleneckConv1d", "BottleneckConv2d", "BottleneckConv3d"]


class Bottleneck(LinearLayer):
    """``y = W_3 * (W_2 * (W_1 * x)) + b``: a 1x1 to M channels, the kernel on M, a 1x1 to C_out.

    One kernel ``K[o, i, j] = sum_{m, n} W_3[o, n] W_2[n, m, j] W_1[m, i]``, of rank at most M = `mid_channels` (default
    C_out/4, rounded down to a multiple of the groups) in its outputs and in its inputs. Linear: no activation in
    between. All three have the groups g; ``depthwise=True`` makes W_2 depthwise: with M > C_in the inverted
    bottleneck of MobileNetV2. ``shuffle=True`` shuffles the channels after W_1, and with both it is the unit of
    ShuffleNet. Stride, padding and dilation stand on W_2, the bias on W_3.

    Cost per sample, T taps, P_0 input and P output positions: MACs ``(P_0*C_in*M + P*T*M*M + P*M*C_out)/g``; parameters
    ``M*(C_in + T*M + C_out)/g``, C_out more with a bias. Depthwise: T*M in place of T*M*M/g.
    """

    name = "bottleneck"

    def _build(self, *, mid_channels: int | None = None, depthwise: bool = False, shuffle: bool = False) -> None:
        if mid_channels is None:
            middle = max(self.out_channels // 4 // self.groups, 1) * self.groups
        else:
            middle = check_count(mid_channels, "mid_channels", self)
        check_share(self.groups, "groups", self, mid_channels=middle)
        if shuffle and self.groups == 1:
            raise InvalidArgument(
                "a shuffle of one group changes nothing",
                where=type(self).__name__,
                got="shuffle=True with groups=1",
                expected="groups of at least 2",
            )
        self.mid_channels, self.depthwise, self.shuffle = middle, depthwise, shuffle
        self.reduce = unit_gain(self._plain(self.in_channels, middle, self._one))
        groups = middle if depthwise else self.groups
        self.conv = unit_gain(self._inner(middle, middle, self.kernel_size, groups=groups, **self._at_window()))
        self.expand = self._plain(middle, self.out_channels, self._one, bias=self._bias)

    def op(self) -> Op:
        dealt = Select.shuffle(self.mid_channels, self.groups, self.dims) if self.shuffle else None
        return chain_of(
            self._placed(self.reduce, self._no_pads),
            dealt,
            self._placed(self.conv, self.pads),
            self._placed(self.expand, self._no_pads),
        )


class BottleneckConv1d(Bottleneck):
    dims = 1


class BottleneckConv2d(Bottleneck):
    dims = 2


class BottleneckConv3d(Bottleneck):
    dims = 3
