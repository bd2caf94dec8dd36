"""ACNet: the square kernel, and one kernel flattened along each axis.

Ding et al., "ACNet: Strengthening the Kernel Skeletons for Powerful CNN via Asymmetric Convolution Blocks",
ICCV 2019, arXiv 1908.03930.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from convfold.algebra import Op, chain_of
from convfold.blocks.branched import Branched

__all__ = ["ACNet", "ACNetConv1d", "ACNetConv2d", "ACNetConv3d"]


class ACNet(Branched):
    """``y = BN(W_{k x k} * x) + BN(W_{1 x k} * x) + BN(W_{k x 1} * x)``, batch normalisation before the sum.

    In n dimensions there is one flat branch per axis, of size 1 on that axis, centred at tap (k-1)//2; an
    axis that has size 1 already needs none. In 1-D the flat branch degenerates to a 1x1.
    """

    name = "acnet"

    def _build_branches(self) -> None:
        self._build_dense()
        self.flat = nn.ModuleList()
        self.flat_norms = nn.ModuleList()
        for kernel_size in self._flat_sizes():
            self.flat.append(self._inner(self.in_channels, self.out_channels, kernel_size, **self._at_window()))
            self.flat_norms.append(self._norm(self.out_channels))

    def _flat_sizes(self) -> list[tuple[int, ...]]:
        sizes = self.kernel_size
        return [(*sizes[:a], 1, *sizes[a + 1 :]) for a in range(self.dims) if sizes[a] > 1]

    def branches(self) -> Iterator[Op]:
        yield self._dense_branch()
        for conv, norm, kernel_size in zip(self.flat, self.flat_norms, self._flat_sizes(), strict=True):
            yield chain_of(self._placed(conv, self._centred(kernel_size)), self._after(norm))

    def other_norms(self) -> Iterator[nn.Module]:
        yield from self.flat_norms


class ACNetConv1d(ACNet):
    dims = 1


class ACNetConv2d(ACNet):
    dims = 2


class ACNetConv3d(ACNet):
    dims = 3
