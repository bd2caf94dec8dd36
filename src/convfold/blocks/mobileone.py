"""MobileOne: several copies of one convolution, a 1x1 and the identity, each with its batch normalisation.

Vasu et al., "MobileOne: An Improved One millisecond Mobile Backbone", CVPR 2023, arXiv 2206.04040.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from convfold.algebra import Op, chain_of
from convfold.blocks.repvgg import RepVGG
from convfold.errors import InvalidArgument

__all__ = ["MobileOne", "MobileOneConv1d", "MobileOneConv2d", "MobileOneConv3d"]


class MobileOne(RepVGG):
    """``y = sum_{j<branches} BN_j(W_j * x) + BN(W_1 * x) + BN(x)``: RepVGG with several dense branches.

    The 1x1 (the paper's scale branch) is there when the kernel is larger, the identity when in_channels =
    out_channels and the stride is 1. `branches` is 4 in MobileOne-S0 and 1 in S1 to S4. A MobileOne layer is
    a depthwise 3x3 block and then a 1x1 block, each of this kind.
    """

    name = "mobileone"

    def _build(self, *, norm: str = "bn", branches: int = 4) -> None:
        if not isinstance(branches, int) or branches < 1:
            raise InvalidArgument(
                "branches is too small", where=type(self).__name__, got=branches, expected="at least 1"
            )
        self.num_branches = branches
        super()._build(norm=norm)

    def _build_branches(self) -> None:
        super()._build_branches()
        more = range(self.num_branches - 1)
        self.copies = nn.ModuleList(
            self._inner(self.in_channels, self.out_channels, self.kernel_size, **self._at_window()) for _ in more
        )
        self.copy_norms = nn.ModuleList(self._norm(self.out_channels) for _ in more)

    def branches(self) -> Iterator[Op]:
        yield from super().branches()
        for conv, norm in zip(self.copies, self.copy_norms, strict=True):
            yield chain_of(self._placed(conv, self.pads), self._after(norm))

    def other_norms(self) -> Iterator[nn.Module]:
        yield from super().other_norms()
        yield from self.copy_norms


class MobileOneConv1d(MobileOne):
    dims = 1


class MobileOneConv2d(MobileOne):
    dims = 2


class MobileOneConv3d(MobileOne):
    dims = 3
