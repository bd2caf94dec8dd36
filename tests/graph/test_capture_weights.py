"""Constants, a module's own equation, counts of operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from convfold.graph.capture import evaluate
from convfold.graph.inputs import example_inputs
from convfold.graph.program import Linear
from support.programs import X, check, made


def test_constants_are_the_models_own_or_computed_in_the_precision_asked_for() -> None:
    class Composed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.factor = nn.Conv2d(3, 4, 1), nn.Parameter(torch.full((4, 1, 1, 1), 0.1))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(self.conv(x), (self.factor * self.conv.weight).transpose(0, 1))

    model = made(Composed())
    captured = check(model)
    assert captured.tensor("conv.weight") is model.conv.weight
    assert captured.names["conv.weight"] == "conv.weight"
    key = captured.program.nodes[captured.program.outputs[0]].terms[0].map.recipe.key
    want = (model.factor.double() * model.conv.weight.double()).transpose(0, 1)
    assert torch.equal(captured.tensor(key, torch.float64), want)
    assert captured.tensor(key).dtype == torch.float32


@pytest.mark.parametrize("how", ["parametrized", "weight_norm", "pruned", "spectral"])
def test_weights_that_are_computed(how: str) -> None:
    model = made(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    if how == "parametrized":
        nn.utils.parametrizations.weight_norm(model[0])
    elif how == "weight_norm":
        nn.utils.weight_norm(model[0])
    elif how == "spectral":
        nn.utils.spectral_norm(model[0]).eval()
    else:
        prune.l1_unstructured(model[0], "weight", amount=0.5)
    captured = check(model.eval())
    assert all(isinstance(node, Linear) for node in captured.program.nodes.values())


def test_tied_weights_share_a_key() -> None:
    model = made(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)))
    model[1].weight = model[0].weight
    captured = check(model)
    keys = [node.terms[0].map.recipe.key for node in captured.program.nodes.values()]
    assert keys[0] == keys[1] == "0.weight"


class Own(nn.Module):
    """A block that gives its own equation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x).clamp(-1e9, 1e9))  # an operator that the rules do not see through

    def op(self) -> Any:
        from convfold.algebra import Norm, op

        return op(self.conv) >> Norm(self.bn, 2)


def test_a_modules_own_equation_is_an_alternative() -> None:
    model = made(nn.Sequential(Own(), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    captured = check(model)
    (number,) = captured.program.alternatives
    assert number == captured.calls[1].output.value
    node = captured.program.alternatives[number]
    values = evaluate(captured, example_inputs(model, X))
    weight = captured.tensor(node.terms[0].map.recipe.key, torch.float64)
    bias = captured.tensor(node.shift.key, torch.float64)
    got = F.conv2d(values[node.terms[0].source], weight, bias, padding=1)
    torch.testing.assert_close(got, values[number], rtol=1e-12, atol=1e-12)


def test_a_hooked_module_gives_no_alternative() -> None:
    model = made(nn.Sequential(Own()))
    model[0].conv.register_forward_hook(lambda *_: None)
    assert not check(model).program.alternatives


def test_operators_are_counted_as_they_are_executed() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 4, padding="same")
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).permute(0, 2, 3, 1)
            return self.head(y) + self.head(y.contiguous())

    captured = check(made(Same()))
    # torch adds the bias of a Linear by itself where the value is not contiguous
    assert [captured.program.operators[n] for n in captured.steps] == [2, 0, 2, 0, 1, 1]
