"""RepVGG: a 3x3, a 1x1 and the identity, each with its batch normalisation.

Ding et al., "RepVGG: Making VGG-style ConvNets Great Again", CVPR 2021, arXiv 2101.03697.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from convfold.algebra import Op, chain_of
from convfold.blocks.branched import Branched

__all__ = ["RepVGG", "RepVGGConv1d", "RepVGGConv2d", "RepVGGConv3d"]


class RepVGG(Branched):
    """``y = BN3(W_k * x) + BN1(W_1 * x) + BN0(x)`` for any kernel, stride, dilation and groups.

    The identity is there when in_channels = out_channels and the stride is 1; the 1x1 when the kernel is
    larger. Both look through the centre tap (k-1)//2. Kernels start as torch's convolutions do.
    """

    name = "repvgg"

    @classmethod
    def unsuited(cls, conv: nn.Module) -> str:
        return ""  # a 1x1 still gains the identity

    def _build_branches(self) -> None:
        self._build_dense()
        self.point: nn.Module | None = None
        self.point_norm: nn.Module | None = None
        if any(k > 1 for k in self.kernel_size):
            self.point = self._plain(self.in_channels, self.out_channels, (1,) * self.dims, stride=self.stride)
            self.point_norm = self._norm(self.out_channels)
        self.identity_norm = self._norm(self.in_channels) if self._has_identity() else None

    def branches(self) -> Iterator[Op]:
        yield self._dense_branch()
        if self.point is not None:
            pads = self._centred((1,) * self.dims)
            yield chain_of(self._placed(self.point, pads), self._after(self.point_norm))
        if self.identity_norm is not None:
            yield self._identity(self.identity_norm)

    def other_norms(self) -> Iterator[nn.Module]:
        yield from (n for n in (self.point_norm, self.identity_norm) if n is not None)


class RepVGGConv1d(RepVGG):
    dims = 1


class RepVGGConv2d(RepVGG):
    dims = 2


class RepVGGConv3d(RepVGG):
    dims = 3
