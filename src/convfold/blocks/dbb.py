"""Diverse Branch Block: k x k, 1x1, 1x1 then k x k, 1x1 then average pooling.

Ding et al., "Diverse Branch Block: Building a Convolution as an Inception-like Unit", CVPR 2021,
arXiv 2103.13425.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from convfold.algebra import AvgPool, Op, Pads, chain_of
from convfold.blocks.branched import Branched
from convfold.blocks.identity import IdentityBased

__all__ = ["DBB", "DBBConv1d", "DBBConv2d", "DBBConv3d"]


class DBB(Branched):
    """``y = BN(W_k*x) + BN(W_1*x) + BN(W'_k * pad(BN(W'_1*x))) + BN(avg(pad(BN(W''_1*x))))``.

    The intermediate maps are padded with their own response to zero, in training under the statistics of the
    unpadded map, so that the border folds exactly; under another padding mode they are padded in that mode.
    The 1x1 before W'_k is identity-based with M = in_channels (2*in_channels, of torch's initialisation, when
    groups = out_channels); with groups = out_channels there is no 1x1 branch, and with groups = in_channels too
    the pooling branch has no 1x1. Pooling follows the window: strides, dilation and all.
    """

    name = "dbb"

    def _build_branches(self) -> None:
        inputs, outputs, one = self.in_channels, self.out_channels, (1,) * self.dims
        fully_grouped = self.groups == outputs
        self._build_dense()
        self.point = None if fully_grouped else self._plain(inputs, outputs, one, stride=self.stride)
        self.point_norm = None if fully_grouped else self._norm(outputs)
        middle = 2 * inputs if fully_grouped else inputs
        self.squeeze: nn.Module = (
            self._plain(inputs, middle, one)
            if fully_grouped
            else IdentityBased(inputs, self.groups, self.dims, **self._placement)
        )
        self.squeeze_norm = self._norm(middle)
        self.expand = self._inner(middle, outputs, self.kernel_size, **self._at_window())
        self.expand_norm = self._norm(outputs)
        pools_alone = fully_grouped and inputs == self.groups
        self.pool_point = None if pools_alone else self._plain(inputs, outputs, one)
        self.pool_point_norm = None if pools_alone else self._norm(outputs)
        self.pool_norm = self._norm(outputs)

    def branches(self) -> Iterator[Op]:
        yield self._dense_branch()
        if self.point is not None:
            pads = self._centred((1,) * self.dims)
            yield chain_of(self._placed(self.point, pads), self._after(self.point_norm))
        before, after = self._split_pads(self.expand)
        yield chain_of(
            self._placed(self.squeeze, before),
            self._after(self.squeeze_norm, self._ring(self.expand)),
            self._placed(self.expand, after),
            self._after(self.expand_norm),
        )
        before, after = self._split_pads()
        if self.pool_point is None:
            yield chain_of(self._pool(self.pads), self._after(self.pool_norm))
        else:
            yield chain_of(
                self._placed(self.pool_point, before),
                self._after(self.pool_point_norm, self._ring()),
                self._pool(after),
                self._after(self.pool_norm),
            )

    def _pool(self, pads: Pads) -> AvgPool:
        return AvgPool(self.out_channels, self._window(pads), self.padding_mode)

    def other_norms(self) -> Iterator[nn.Module]:
        if self.point_norm is not None:
            yield self.point_norm
        yield self.expand_norm
        yield self.pool_norm


class DBBConv1d(DBB):
    dims = 1


class DBBConv2d(DBB):
    dims = 2


class DBBConv3d(DBB):
    dims = 3
