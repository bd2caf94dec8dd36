"""Traced modules fold, and what comes out is copied and saved like any other."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, fx, nn

import convfold
from transform.models import noise, relative, seeded

X = noise(2, 3, 9, 9)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.other = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.norm(self.conv(x)) + self.other(x)).relu()


def exported(model: nn.Module) -> nn.Module:
    return torch.export.export(model, (X,)).module()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trace", [exported, fx.symbolic_trace], ids=["export", "fx"])
@pytest.mark.parametrize("inner", [False, True])
def test_a_traced_module_becomes_a_plain_one(trace: object, inner: bool) -> None:
    model = seeded(Small())
    traced: nn.Module = trace(model)  # type: ignore[operator]
    whole = nn.Sequential(traced, nn.ReLU()) if inner and trace is not exported else traced
    folded = convfold.fold(whole, X)
    assert sum(isinstance(module, nn.Conv2d) for module in folded.modules()) == 1
    for again in (folded, copy.deepcopy(folded), pickle.loads(pickle.dumps(folded))):
        assert relative(again(X), model(X)) <= 1e-12
    assert relative(traced(X), model(X)) == 0
