"""What every training loop here shares: which parameters decay, and the learning rate over time."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["parameter_groups", "rate"]


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay weights only: a gamma that starts at zero is to grow, and decay would pull it back."""
    norms = {id(p) for m in model.modules() if isinstance(m, _BatchNorm) for p in m.parameters(recurse=False)}
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for parameter in model.parameters():
        spared = id(parameter) in norms or parameter.dim() <= 1
        (free if spared else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def rate(epochs: int, warmup_epochs: float, progress: float) -> float:
    """The factor on the learning rate after `progress` epochs: linear warm-up, then half a cosine to zero.

    Cosine: Loshchilov and Hutter, 2017, arXiv 1608.03983, without restarts; warm-up: Goyal et al., 2017, arXiv
    1706.02677.
    """
    if progress < warmup_epochs:
        return (progress + 1e-3) / (warmup_epochs + 1e-3)
    rest = (progress - warmup_epochs) / max(epochs - warmup_epochs, 1e-9)
    return 0.5 * (1 + math.cos(math.pi * rest))
