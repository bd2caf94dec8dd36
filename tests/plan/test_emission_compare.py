"""The comparison of a new definition with the original: on which values of the original it is made."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold.graph.capture import capture
from convfold.graph.inputs import example_inputs
from convfold.graph.program import Concat, Elementwise
from convfold.graph.weights import Weights
from convfold.plan.emission import check, emit
from support.make import randomise

X = torch.randn(2, 4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _random(model: nn.Module) -> nn.Module:
    return randomise(model.double(), torch.Generator().manual_seed(0)).eval()


class Gated(nn.Module):
    """The result reads `u`, far from the input, and what follows from `u` and something else."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(*(m for _ in range(6) for m in (nn.Conv2d(4, 4, 1), nn.ReLU())))
        self.beside, self.wide, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        u = self.first(x)
        s = torch.sigmoid(u + torch.tanh(self.beside(x)))
        y: Tensor = self.last(torch.cat([self.wide(s), u], 1))
        return y


def test_what_the_original_reads_beside_is_drawn_too() -> None:
    model = _random(Gated())
    plan = convfold.plan(model, X)
    folded = plan.apply()
    assert not [refusal for refusal in plan.refusals if "rolled back" in refusal.reason]
    assert convfold.cost(folded, X).macs < convfold.cost(model, X).macs


class Twice(nn.Module):
    """One value, computed twice by the same operator."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x)
        return torch.cat([torch.sigmoid(y), torch.sigmoid(y)], 1)


@pytest.mark.parametrize("right", [True, False])
def test_values_that_belong_together_are_drawn_further_up(right: bool) -> None:
    captured = capture(_random(Twice()), example_inputs(Twice(), X))
    (result,) = captured.program.outputs
    joined = captured.program.nodes[result]
    assert isinstance(joined, Concat)
    first = captured.program.nodes[joined.pieces[0]]
    assert isinstance(first, Elementwise)
    piece = joined.pieces[0] if right else first.source
    after = replace(captured.program, nodes={**captured.program.nodes, result: replace(joined, pieces=(piece,) * 2)})
    emitted = emit(captured, after, captured.model, Weights)
    assert bool(check(captured, after, emitted, [result])) is right


class Positions(nn.Module):
    """Positions counted along a mask, as an encoding of them does: between the map and what it adds up stand truths."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = ~torch.zeros(x.shape[0], *x.shape[2:], dtype=torch.bool, device=x.device)
        at = seen.cumsum(1, dtype=torch.float32).to(x.dtype)
        y: Tensor = self.narrow(self.wide(torch.stack((at.sin(), at.cos()), 1)))
        return x + y


def test_truths_on_the_way_are_measured_as_numbers() -> None:
    model = _random(Positions())
    folded = convfold.fold(model, X)
    assert convfold.cost(folded, X).convolutions == 1
    torch.testing.assert_close(folded(X), model(X), rtol=0, atol=1e-12)
