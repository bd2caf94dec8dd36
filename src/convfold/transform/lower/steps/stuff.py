"""Zeros between the positions of a map."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Stuff"]


class Stuff(nn.Module):
    """``y[s*i] = x[i]``, 0 between: n positions become ``(n - 1)*s + 1`` on each axis."""

    def __init__(self, factors: tuple[int, ...]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        first = x.dim() - len(self.factors)
        for axis, factor in enumerate(self.factors, start=first):
            if factor == 1:
                continue
            size = x.shape[axis]
            behind = (0, 0) * (x.dim() - 1 - axis)
            spread = F.pad(x.unsqueeze(axis + 1), [*behind, 0, factor - 1]).flatten(axis, axis + 1)
            x = spread.narrow(axis, 0, (size - 1) * factor + 1)
        return x

    def extra_repr(self) -> str:
        return "x".join(map(str, self.factors))
