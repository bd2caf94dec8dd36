"""Models that return tensors which do not depend on their inputs: anchors, grids, a parameter itself."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

import convfold
from convfold.plan.emission.rewritten import Rewritten


class Anchored(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> dict[str, Any]:
        return {
            "map": torch.relu(self.one(x) + self.two(x)),
            "rest": (torch.arange(5) + 1, 2 * self.scale, self.scale, torch.ones(x.shape[0])),
        }


def test_they_are_returned_as_they_were() -> None:
    torch.manual_seed(0)
    model = Anchored().double().eval()
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    before = copy.deepcopy(model.state_dict())
    folded = convfold.fold(model, x)
    assert isinstance(folded, Rewritten)
    assert convfold.cost(folded, x).convolutions == 1
    for size in ((2, 3, 6, 7), (3, 3, 9, 5)):
        y = torch.randn(*size, dtype=torch.float64)
        wanted, found = model(y), folded(y)
        torch.testing.assert_close(found["map"], wanted["map"], rtol=0, atol=1e-12)
        for a, b in zip(found["rest"], wanted["rest"], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert found["rest"][2] is folded.scale
    # What was made anew at each run may be written to by whoever receives it.
    found["rest"][0].zero_()
    torch.testing.assert_close(folded(y)["rest"][0], wanted["rest"][0], rtol=0, atol=0)
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
