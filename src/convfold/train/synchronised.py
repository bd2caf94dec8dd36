"""Batch normalisation over all processes, on CPUs as well: torch's own SyncBatchNorm trains on GPUs alone."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from convfold.algebra import Norm, Op
from convfold.algebra.readings.statistics import batch_statistics

__all__ = ["SyncedNorm", "SyncedNormAct", "synchronise"]

_DIMS: dict[type, int] = {nn.BatchNorm1d: 1, nn.BatchNorm2d: 2, nn.BatchNorm3d: 3}


class _Synced(nn.SyncBatchNorm):
    """Statistics of all processes, each of which has equally many values."""

    def _normalised(self, x: Tensor) -> Tensor:
        if x.is_cuda or not (self.training and dist.is_initialized()):
            return super().forward(x)
        mean, variance = batch_statistics(self, x)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            count = x.numel() // x.shape[1] * dist.get_world_size()
            momentum = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean.to(self.running_mean), momentum)
                self.running_var.lerp_((variance * (count / max(count - 1, 1))).to(self.running_var), momentum)
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        ends = (1,) * (x.dim() - 2)
        return (x.to(mean.dtype) * scale.reshape(-1, *ends) + shift.reshape(-1, *ends)).to(x.dtype)


class SyncedNorm(_Synced):
    """In place of ``nn.BatchNorm{1,2,3}d``: mean and variance in training are those of the batches of all processes."""

    dims: int = 2

    def op(self) -> Op:
        """As that of the normalisation that it took the place of."""
        return Norm(self, self.dims)

    def forward(self, x: Tensor) -> Tensor:
        return self._normalised(x)


class SyncedNormAct(_Synced):
    """The same in place of a timm layer that normalises, drops and activates."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(self._normalised(x)))  # type: ignore[no-any-return]


def synchronise(model: nn.Module) -> list[str]:
    """Replace the batch normalisations of `model`, in place, by such over all processes; names of parameters stay.

    Returns the paths of those that are of a class with a forward of its own, and were left as they are. The model
    itself is not to be a batch normalisation.
    """
    left = []
    known: dict[nn.Module, nn.Module | None] = {}
    # With the second name of a module that has two.
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(module, _BatchNorm) or isinstance(module, nn.SyncBatchNorm):
            continue
        if module not in known:
            known[module] = _synced(module)
        made = known[module]
        if made is None:
            left.append(path)
            continue
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, made)
    return left


def _synced(module: _BatchNorm) -> nn.SyncBatchNorm | None:
    made: SyncedNorm | SyncedNormAct
    if type(module) in _DIMS:
        made = SyncedNorm(module.num_features)
        made.dims = _DIMS[type(module)]
    elif isinstance(drop := getattr(module, "drop", None), nn.Module) and isinstance(
        act := getattr(module, "act", None), nn.Module
    ):
        made = SyncedNormAct(module.num_features)
        made.drop, made.act = drop, act
    else:
        return None
    for name in ("eps", "momentum", "affine", "track_running_stats", "training"):
        setattr(made, name, getattr(module, name))
    made.weight, made.bias = module.weight, module.bias
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(made, name, getattr(module, name))
    return made
