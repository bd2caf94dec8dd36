"""A parameter that a forward takes apart is several constants, each a tensor."""

from __future__ import annotations

import torch
from torch import nn

import convfold


class Weighted(nn.Module):
    """``y = a * conv3x3(x) + b * conv1x1(x)`` with a and b the two values of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.weights = nn.Parameter(torch.tensor([0.3, -0.7]))

    def forward(self, x):
        a, b = self.weights
        return a * self.first(x) + b * self.second(x)


def test_an_unbound_parameter_scales_branches_that_fold_to_one():
    torch.manual_seed(0)
    model, x = Weighted().double().eval(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    folded = convfold.fold(model, x)
    assert convfold.cost(folded, x).operators == 1
    assert float((folded(x) - model(x)).detach().abs().max()) <= 1e-12
