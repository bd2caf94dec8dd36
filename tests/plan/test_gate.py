"""A forward with writes in place is written anew only where that is not dearer than what the fold saves in it."""

from __future__ import annotations

import torch
from torch import nn

import convfold
from support.make import randomise


class Masked(nn.Module):
    """Writes a mask region by region, as shifted windows do, beside a scale that a convolution could take in."""

    def __init__(self, regions: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.out = nn.Conv2d(8, 8, 1)
        self.regions = regions

    def forward(self, x):
        mask = x.new_zeros((8, 8))
        for region in range(self.regions):
            mask[region : region + 1, :-3] = region
        y = torch.relu(self.bn(self.conv(x)))
        return self.out(y) * 0.5 + mask


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.body = Masked(4)

    def forward(self, x):
        return self.body(torch.relu(self.norm(self.stem(x))))


def _made(module):
    return randomise(module.double(), torch.Generator().manual_seed(0)).eval()


def _three(report):
    return report.macs, report.convolutions, report.operators


def test_a_forward_that_would_get_dearer_is_left_alone_and_said():
    for model, path in ((_made(Masked(4)), ""), (_made(Outer()), "body")):
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
        plan = convfold.plan(model, x)
        assert all(a <= b for a, b in zip(_three(plan.after), _three(plan.before), strict=True))
        assert [why.place for why in plan.refusals if "writes in place" in why.reason] == [path]
        folded = plan.apply()
        assert _three(convfold.cost(folded, x)) == _three(plan.after)
        assert convfold.verify(model, folded, x)
        assert type(folded.get_submodule(path)) is type(model.get_submodule(path))
        # What needs no forward written anew is folded all the same.
        assert type(folded.get_submodule(f"{path}.bn".lstrip("."))) is nn.Identity


def test_a_forward_without_writes_takes_the_scale_in():
    model, x = _made(Masked(0)), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    plan = convfold.plan(model, x)
    assert not any("writes in place" in why.reason for why in plan.refusals)
    assert plan.after.operators == plan.before.operators - 2
