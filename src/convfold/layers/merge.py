"""Split, transform, merge: several convolutions side by side, joined in one of four ways.

Xie et al., "Aggregated Residual Transformations for Deep Neural Networks" (ResNeXt), CVPR 2017, arXiv 1611.05431;
Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, arXiv 1409.4842 (the strategy).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, Concat, Op, Select, chain_of, sum_of
from convfold.errors import InvalidArgument
from convfold.layers.base import LinearLayer, check_count, check_share, scaled

__all__ = [
    "SplitTransformMerge",
    "SplitTransformMergeConv1d",
    "SplitTransformMergeConv2d",
    "SplitTransformMergeConv3d",
]

MERGES = ("concat", "sum", "mean", "weighted_sum", "shuffle")
_JOINED = ("concat", "shuffle")


class SplitTransformMerge(LinearLayer):
    """``y = merge_j(T_j * x_j)``: n branches, each a convolution, merged.

    * ``merge="concat"``: ``[T_1 * x_1; ...; T_n * x_n]``, each C_out/n channels; one grouped convolution of n groups.
    * ``merge="sum"``, ``"mean"``: ``sum_j T_j * x_j + b`` and ``(1/n) sum_j T_j * x_j + b``, each T_j widened to C_out
      channels; one dense convolution.
    * ``merge="weighted_sum"``: ``sum_j a_j (T_j * x_j) + b`` with a learned number a_j per branch.
    * ``merge="shuffle"``: concatenated, then the channels of the branches dealt out in turn.

    `split` says what a branch reads: "share", its n-th of the channels, or "whole", all of them. `conv` says what T_j
    is: any block, layer or factory, with the arguments of this layer and `groups` within each branch. Merges that add
    start so that the sum has the variance of one convolution, where T_j is torch's own.

    Cost per sample, T taps, P output positions, C_1 = C_in/n or C_in for "whole", C_2 = C_out/n or C_out for sums:
    MACs ``n*P*T*C_1*C_2/g``; parameters ``n*T*C_1*C_2/g``, C_out more with a bias and n more for a weighted sum.
    """

    name = "split_transform_merge"

    def _build(self, *, branches: int = 4, merge: str = "concat", split: str = "share") -> None:
        count = check_count(branches, "branches", self)
        for value, what, legal in ((merge, "merge", MERGES), (split, "split", ("share", "whole"))):
            if value not in legal:
                raise InvalidArgument(
                    f"{what} is unknown", where=type(self).__name__, got=repr(value), expected=f"one of {legal}"
                )
        joined = merge in _JOINED
        divided = {"in_channels": self.in_channels} if split == "share" else {}
        check_share(count, "branches", self, **divided, **({"out_channels": self.out_channels} if joined else {}))
        inputs = self.in_channels // count if split == "share" else self.in_channels
        outputs = self.out_channels // count if joined else self.out_channels
        check_share(self.groups, "groups", self, **{"inputs of a branch": inputs, "outputs of a branch": outputs})
        self.merge, self.split = merge, split
        self.branches = nn.ModuleList(
            self._inner(inputs, outputs, self.kernel_size, bias=self._bias and joined, **self._at_window())
            for _ in range(count)
        )
        self.weights: nn.Parameter | None = None
        self.bias: nn.Parameter | None = None
        if merge == "weighted_sum":
            self.weights = nn.Parameter(torch.full((count,), 1 / math.sqrt(count), **self._placement))
        if joined:
            return
        for branch in self.branches:
            scaled(branch, {"sum": 1 / math.sqrt(count), "mean": math.sqrt(count)}.get(merge, 1.0))
        if self._bias:
            bound = 1 / math.sqrt(self.in_channels // self.groups * math.prod(self.kernel_size))
            self.bias = nn.Parameter(torch.empty(self.out_channels, **self._placement))
            nn.init.uniform_(self.bias, -bound, bound)

    def _transformed(self) -> list[Op]:
        width = self.in_channels // len(self.branches)
        found = []
        for j, branch in enumerate(self.branches):
            share = Select.block(j * width, (j + 1) * width, self.in_channels, self.dims)
            whole = self.split == "whole" or len(self.branches) == 1
            found.append(chain_of(None if whole else share, self._placed(branch, self.pads)))
        return found

    def _factor(self, value: Tensor) -> Op:
        return Affine(value.expand(self.out_channels), None, self.dims)

    def op(self) -> Op:
        terms, count = self._transformed(), len(self.branches)
        if self.merge in _JOINED:
            dealt = Select.shuffle(self.out_channels, count, self.dims) if self.merge == "shuffle" else None
            return chain_of(Concat(tuple(terms)), dealt)
        if self.weights is not None:
            terms = [term >> self._factor(self.weights[j]) for j, term in enumerate(terms)]
        like = next(self.parameters())
        mean = self._factor(like.new_full((), 1 / count)) if self.merge == "mean" else None
        shift = None if self.bias is None else Affine(None, self.bias, self.dims)
        return chain_of(sum_of(*terms), mean, shift)


class SplitTransformMergeConv1d(SplitTransformMerge):
    dims = 1


class SplitTransformMergeConv2d(SplitTransformMerge):
    dims = 2


class SplitTransformMergeConv3d(SplitTransformMerge):
    dims = 3
