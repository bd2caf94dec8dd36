"""Small kernels for a large one: beside each other, or one after the other."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

__all__ = ["Stack", "Tiles"]


class Tiles(nn.Module):
    """``y = sum_t tile_t(x)``: each tile is a crop and a convolution with one block of the kernel."""

    def __init__(self, tiles: Iterable[nn.Module]) -> None:
        super().__init__()
        self.tiles = nn.ModuleList(tiles)

    def forward(self, input: Tensor) -> Tensor:
        first, *others = self.tiles
        total: Tensor = first(input)
        for tile in others:
            total = total + tile(input)
        return total


class Stack(nn.Sequential):
    """Convolutions one after the other whose kernels compose to the large one, up to rounding of the weights.

    Their absolute values compose to `amplification` times the absolute kernel: so much larger may roundings be.
    """

    def __init__(self, amplification: float, stages: Iterable[nn.Module]) -> None:
        super().__init__(*stages)
        self.amplification = amplification
