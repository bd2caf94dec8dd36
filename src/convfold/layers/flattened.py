"""Flattened convolution: a kernel of rank one, run as one-dimensional filters.

Jin et al., "Flattened Convolutional Neural Networks for Feedforward Acceleration", ICLR workshop 2015,
arXiv 1412.5474.
"""

from __future__ import annotations

from torch import nn

from convfold.algebra import Op, chain_of
from convfold.errors import InvalidArgument
from convfold.layers.axes import Axiswise
from convfold.layers.base import unit_gain

__all__ = ["Flattened", "FlattenedConv1d", "FlattenedConv2d", "FlattenedConv3d"]


class Flattened(Axiswise):
    """``y = H * (V * (L * x)) + b``: across the channels (lateral), then along each axis by itself.

    One kernel ``K[o, i, u, v] = L[o, i] V[o, u] H[o, v]``: every output's kernel is an outer product, of rank one. L is
    a 1x1 (with the groups g), V and H are depthwise, each with the stride, the padding and the dilation of its
    axis; the last one has the bias. ``lateral="last"`` runs the axes first, on the input's channels:
    ``K[o, i, u, v] = L[o, i] V[i, u] H[i, v]``, cheaper where C_in < C_out or with a stride. An axis of one tap without
    stride and padding has no filter. In 1-D there is one axis, V.

    Cost per sample, P_0 input positions, P_a positions after the filter of axis a with k_a taps, P output positions:
    MACs ``P_0*C_in*C_out/g + sum_a P_a*k_a*C_out``, with lateral last ``sum_a P_a*k_a*C_in + P*C_in*C_out/g``;
    parameters ``C_out*(C_in/g + sum_a k_a)``, with lateral last ``C_in*(C_out/g + sum_a k_a)``; C_out more with a bias.
    """

    name = "flattened"

    def _build(self, *, lateral: str = "first") -> None:
        if lateral not in ("first", "last"):
            raise InvalidArgument(
                "lateral is unknown", where=type(self).__name__, got=repr(lateral), expected="'first' or 'last'"
            )
        self.lateral_first = lateral == "first"
        self._keep_order()
        axes = self._own_axes()
        width = self.out_channels if self.lateral_first else self.in_channels
        ends = [self.lateral_first and self._bias and axis == axes[-1] for axis in axes]
        self.lateral = self._plain(self.in_channels, self.out_channels, self._one, bias=self._bias and not any(ends))
        self.axes = nn.ModuleList(
            self._along(axis, width, width, groups=width, bias=end) for axis, end in zip(axes, ends, strict=True)
        )
        # The last operator starts as torch's own do.
        order = [self.lateral, *self.axes] if self.lateral_first else [*self.axes, self.lateral]
        for module in order[:-1]:
            unit_gain(module)

    def op(self) -> Op:
        lateral = self._placed(self.lateral, self._no_pads)
        return chain_of(lateral, *self._chained()) if self.lateral_first else chain_of(*self._chained(), lateral)


class FlattenedConv1d(Flattened):
    dims = 1


class FlattenedConv2d(Flattened):
    dims = 2


class FlattenedConv3d(Flattened):
    dims = 3
