"""Fire's expand unit: a 1x1 and a k x k on one input, concatenated.

Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016, arXiv 1602.07360.
"""

from __future__ import annotations

from convfold.algebra import Concat, Op
from convfold.blocks.base import Block
from convfold.errors import InvalidArgument

__all__ = ["Fire", "FireConv1d", "FireConv2d", "FireConv3d"]


class Fire(Block):
    """``y = [W_1 * x + b_1; W_k * x + b_k]``: the first `pointwise` output channels (default half) by a 1x1.

    A ReLU after each half is the ReLU after the whole, because it acts on each element; so the linear unit
    ends before it. Folds to one k x k convolution whose first rows have one tap: 2 k^n/(1 + k^n) of the work
    for halves, fewer operators; the cost gate of ``convfold.fold`` leaves it alone. groups = 1 only: grouped
    halves, concatenated, are not the groups of one convolution without a permutation after it.
    """

    name = "fire"
    default_mode = "feature"

    def _build(self, *, pointwise: int | None = None) -> None:
        chosen = self.out_channels // 2 if pointwise is None else pointwise
        if self.groups != 1:
            raise InvalidArgument("fire has no groups", where=type(self).__name__, got=self.groups, expected=1)
        if not isinstance(chosen, int) or not 0 < chosen < self.out_channels:
            raise InvalidArgument(
                "pointwise leaves one half empty",
                where=type(self).__name__,
                got=chosen,
                expected=f"from 1 to {self.out_channels - 1}",
            )
        self.pointwise = chosen
        one = (1,) * self.dims
        self.point = self._plain(self.in_channels, chosen, one, stride=self.stride, bias=self._bias)
        rest = self.out_channels - chosen
        self.dense = self._inner(
            self.in_channels, rest, self.kernel_size, stride=self.stride, dilation=self.dilation, bias=self._bias
        )

    def op(self) -> Op:
        pads = self._centred((1,) * self.dims)
        return Concat((self._placed(self.point, pads), self._placed(self.dense, self.pads)))


class FireConv1d(Fire):
    dims = 1


class FireConv2d(Fire):
    dims = 2


class FireConv3d(Fire):
    dims = 3
