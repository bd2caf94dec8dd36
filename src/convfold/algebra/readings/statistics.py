"""The statistics that a batch normalisation in training uses, with their gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["batch_statistics"]


class _Everywhere(torch.autograd.Function):
    """The sum of a tensor over all processes of a group; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        ctx.group = group
        total = mine.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone()
        dist.all_reduce(total, group=ctx.group)
        return total, None


def _everywhere(sums: Tensor, module: nn.Module) -> Tensor:
    """The sum over all processes that a SyncBatchNorm works with; alone for every other module."""
    if isinstance(module, nn.SyncBatchNorm) and dist.is_available() and dist.is_initialized():
        return _Everywhere.apply(sums, module.process_group)  # type: ignore[no-any-return, no-untyped-call]
    return sums


def batch_statistics(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance per channel of x (N, C, ...), over all processes for a SyncBatchNorm.

    ``mean = sum(x)/n``, ``var = sum((x - mean)^2)/n``: the biased variance, the one that normalises. At least
    single precision, differentiable in x.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    axes = [0, *range(2, x.dim())]
    count = wide.new_full((1,), x.numel() // x.shape[1])
    sums = _everywhere(torch.cat([wide.sum(axes), count]), module)
    mean, total = sums[:-1] / sums[-1], sums[-1]
    deviation = wide - mean.reshape(-1, *(1,) * (x.dim() - 2))
    return mean, _everywhere((deviation * deviation).sum(axes), module) / total
