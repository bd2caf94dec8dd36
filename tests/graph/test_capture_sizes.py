"""Sizes that the capture leaves open: the fold holds for others too."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import convfold
from convfold.graph.capture import capture
from convfold.graph.inputs import example_inputs
from support.make import randomise


class Cropped(nn.Module):
    """Its forward names sizes, and a convolution leaves one row."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.pool, self.last = nn.AvgPool2d(2), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x)[:, :, : x.shape[2] - 1, 1 : x.shape[3]]
        y: Tensor = self.last(torch.relu(self.pool(self.left(x) + self.right(x))))
        return y


def test_a_map_of_one_row_pins_no_size() -> None:
    generator = torch.Generator().manual_seed(0)
    model = randomise(Cropped().double(), generator).eval()
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=generator)
    assert capture(model, example_inputs(model, x)).limits == ()
    folded = convfold.fold(model, x)
    other = torch.randn(1, 3, 13, 12, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(folded(other), model(other), rtol=0, atol=1e-12)
