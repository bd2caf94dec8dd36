"""A large kernel with small dilated ones beside it.

Ding et al., "UniRepLKNet", CVPR 2024, arXiv 2311.15599 (the dilated re-param block); Ding et al., "Scaling Up Your
Kernels to 31x31" (RepLKNet), CVPR 2022, arXiv 2203.06717 (one small kernel, undilated).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from convfold.algebra import Op, chain_of
from convfold.blocks.branched import Branched
from convfold.errors import InvalidArgument

__all__ = ["Dilated", "DilatedConv1d", "DilatedConv2d", "DilatedConv3d"]

# UniRepLKNet's branches by size of the large kernel: (kernel, dilation) each.
PUBLISHED: dict[int, tuple[tuple[int, int], ...]] = {
    17: ((5, 1), (9, 2), (3, 4), (3, 5), (3, 7)),
    15: ((5, 1), (7, 2), (3, 3), (3, 5), (3, 7)),
    13: ((5, 1), (7, 2), (3, 3), (3, 4), (3, 5)),
    11: ((5, 1), (5, 2), (3, 3), (3, 4), (3, 5)),
    9: ((5, 1), (5, 2), (3, 3), (3, 4)),
    7: ((5, 1), (3, 2), (3, 3)),
    5: ((3, 1), (3, 2)),
}


class Dilated(Branched):
    """``y = BN(W_K * x) + sum_j BN_j(W_j * x)``, W_j of k_j taps and dilation r_j centred in the K of the large one.

    `branches` are pairs (k_j, r_j) with r_j*(k_j - 1) + 1 <= K; by default UniRepLKNet's for the largest
    published K that is not above this one. ``branches=((5, 1),)`` is RepLKNet's small kernel. Published for
    depthwise kernels (groups = in_channels), which stay depthwise in the fold; legal for any groups. Kernels start
    from a normal distribution of deviation 0.02, truncated at two deviations.
    """

    name = "dilated"

    def _build(self, *, norm: str = "bn", branches: Sequence[tuple[int, int]] | None = None) -> None:
        least = min(self.kernel_size)
        if branches is None:
            fitting = [size for size in PUBLISHED if size <= least]
            if not fitting:
                raise InvalidArgument(
                    "no published branch fits",
                    where=type(self).__name__,
                    got=f"kernel_size {self.kernel_size}",
                    expected="at least 5 on each axis",
                    hint="Name the branches: branches=((k, dilation), ...).",
                )
            branches = PUBLISHED[max(fitting)]
        for size, rate in branches:
            if size < 1 or rate < 1 or rate * (size - 1) + 1 > least:
                raise InvalidArgument(
                    "a dilated branch exceeds the large kernel",
                    where=type(self).__name__,
                    got=f"{size} taps at dilation {rate}, {rate * (size - 1) + 1} positions",
                    expected=f"at most {least}",
                    hint="Make the kernel larger, or the branch smaller.",
                )
        self.small = tuple((int(size), int(rate)) for size, rate in branches)
        super()._build(norm=norm)

    def _build_branches(self) -> None:
        self._build_dense()
        self.dilated = nn.ModuleList()
        self.dilated_norms = nn.ModuleList()
        for size, rate in self.small:
            dilation = tuple(rate * d for d in self.dilation)
            options = {"stride": self.stride, "dilation": dilation}
            self.dilated.append(self._inner(self.in_channels, self.out_channels, (size,) * self.dims, **options))
            self.dilated_norms.append(self._norm(self.out_channels))
        for module in (self.dense, *self.dilated):
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)

    def branches(self) -> Iterator[Op]:
        yield self._dense_branch()
        for conv, norm, (size, rate) in zip(self.dilated, self.dilated_norms, self.small, strict=True):
            # A dilated kernel of k taps is a kernel of r(k-1)+1 with holes: centred as that one is.
            span = rate * (size - 1) + 1
            yield chain_of(self._placed(conv, self._centred((span,) * self.dims)), self._after(norm))

    def other_norms(self) -> Iterator[nn.Module]:
        yield from self.dilated_norms


class DilatedConv1d(Dilated):
    dims = 1


class DilatedConv2d(Dilated):
    dims = 2


class DilatedConv3d(Dilated):
    dims = 3
