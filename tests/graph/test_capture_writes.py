"""In-place operators: what is written becomes a new value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from convfold.graph.capture import functional
from convfold.graph.captured import Ref
from support.programs import check, made


class Written(nn.Module):
    """A forward that writes in place, by name."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.same = how, nn.Conv2d(3, 4, 3, padding=1), nn.Identity()

    def forward(self, x: Tensor) -> Any:
        return getattr(self, self.how)(self.conv(x))

    def whole(self, y: Tensor) -> Tensor:
        F.relu_(y)
        return y * 2

    def through_identity(self, y: Tensor) -> Tensor:
        z = self.same(y)
        z.relu_()
        return y * 2 + z

    def through_view(self, y: Tensor) -> Tensor:
        y.flatten(2).transpose(1, 2).mul_(3)
        return y + 1

    def part(self, y: Tensor) -> Tensor:
        y[:, :2].add_(1)
        return y * 2

    def assigned(self, y: Tensor) -> Tensor:
        y[:, 1] = y[:, 0] * 2
        y[..., ::2] = 0
        return y

    def view_before(self, y: Tensor) -> Tensor:
        view = y.flatten(2)
        y.add_(1)
        return view * 2

    def part_before(self, y: Tensor) -> Tensor:
        left, right = y.chunk(2, 1)
        left.sigmoid_()
        return torch.cat([right, left, y], 1)

    def written_twice(self, y: Tensor) -> Tensor:
        a = y[:, :3]
        b = a[:, 1:]
        b.mul_(2)
        a.add_(1)
        return y + b.sum(1, keepdim=True)

    def copied(self, y: Tensor) -> Tensor:
        old = y.clone()
        y.copy_(y.flip(1))
        return y - old

    def new(self, y: Tensor) -> Tensor:
        mask = torch.zeros(4, 1, 1)
        mask[1:3] = 2.0
        buffer = torch.zeros_like(y)
        buffer[:, 1:] += y[:, 1:]
        return y * mask + buffer

    def narrowed(self, y: Tensor) -> Tensor:
        y.narrow(1, 1, 2).select(1, 0).zero_()
        return y


WRITES = [name for name in vars(Written) if name not in ("__init__", "forward") and not name.startswith("_")]


@pytest.mark.parametrize("how", WRITES)
def test_writes_become_new_values(how: str) -> None:
    check(made(Written(how)), others=(torch.randn(3, 3, 10, 12),))


def test_a_plain_in_place_step_says_what_it_overwrites() -> None:
    captured = check(made(Written("whole")))
    steps = [step for step in captured.steps.values() if step.writes]
    assert [str(step.target) for step in steps] == ["aten.relu_.default"]
    assert str(functional(steps[0]).target) == "aten.relu.default"
    assert not functional(steps[0]).writes


def test_references_only_to_earlier_values() -> None:
    captured = check(made(Written("written_twice")))
    for number, step in captured.steps.items():
        assert all(leaf.value < number for leaf in tree_leaves((step.args, step.kwargs)) if isinstance(leaf, Ref))
        assert all(source < number for source in captured.program.nodes[number].inputs)
