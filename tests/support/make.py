"""Random operators and modules, in float64 and from a seed; batch normalisations are never fresh."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, Conv, ConvTranspose, Norm
from convfold.geometry import Axis, Window

__all__ = ["Make", "randomise"]

_NORMS = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def randomise(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """Fill every parameter and every statistic at random, in place; returns the module.

    Batch normalisations get factors of both signs, variances of which the first is tiny, and means and shifts
    of the order of one: with fresh statistics a fold that forgets them passes. Every other parameter is normal.
    """

    def fill(target: Tensor | None, draw: Tensor) -> None:
        if target is not None:
            target.copy_(draw)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    with torch.no_grad():
        for inner in module.modules():
            if isinstance(inner, nn.modules.batchnorm._BatchNorm):
                count = inner.num_features
                draws = [torch.rand(count, generator=generator, dtype=torch.float64) for _ in range(3)]
                signs = torch.ones(count, dtype=torch.float64)
                signs[::2] = -1
                variance = 0.3 + 2 * draws[1]
                variance[0] = 1e-9
                fill(inner.weight, signs * (0.5 + draws[0]))
                fill(inner.running_var, variance)
                fill(inner.running_mean, 2 * draws[2] - 1)
                fill(inner.bias, torch.randn(count, generator=generator, dtype=torch.float64))
            else:
                for parameter in inner.parameters(recurse=False):
                    fill(parameter, normal(parameter))
    return module


class Make:
    """A source of random operators, reproducible from its seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def tensor(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def conv(
        self, inputs: int, outputs: int, window: Window, groups: int = 1, bias: bool = True, mode: str = "zeros"
    ) -> Conv:
        weight = self.tensor(outputs, inputs // groups, *(axis.kernel for axis in window))
        return Conv(weight, self.tensor(outputs) if bias else None, window, groups, mode)

    def transposed(
        self, inputs: int, outputs: int, window: Window, groups: int = 1, bias: bool = True
    ) -> ConvTranspose:
        weight = self.tensor(inputs, outputs // groups, *(axis.kernel for axis in window))
        return ConvTranspose(weight, self.tensor(outputs) if bias else None, window, groups)

    def affine(self, channels: int, dims: int, scale: bool = True, shift: bool = True) -> Affine:
        return Affine(self.tensor(channels) if scale else None, self.tensor(channels) if shift else None, dims)

    def norm(self, channels: int, dims: int, **options: object) -> Norm:
        module = _NORMS[dims](channels, dtype=torch.float64, **options)  # type: ignore[arg-type]
        return Norm(randomise(module, self.generator).eval(), dims)

    def same(self, dims: int, kernel: int = 3, **axis: int) -> Window:
        """An odd window that keeps the size; `axis` sets more fields."""
        return (Axis(kernel, lo=kernel // 2, hi=kernel // 2, **axis),) * dims
