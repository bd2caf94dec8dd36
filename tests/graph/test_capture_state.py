"""Forwards that write to what the model holds: a buffer, a parameter, an attribute."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.graph import example_inputs
from convfold.graph.capture import capture
from support.programs import made

X = torch.randn(2, 3, 8, 8)


class Stateful(nn.Module):
    """Writes to a buffer or to a tensor that is none, by name."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.plain = how, nn.Conv2d(3, 4, 3, padding=1), torch.zeros(1)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return getattr(self, self.how)(self.conv(x))

    def counted(self, y: Tensor) -> Tensor:
        self.count += 1
        return y + self.count

    def assigned(self, y: Tensor) -> Tensor:
        self.count = self.count + 1
        return y + self.count

    def statistics(self, y: Tensor) -> Tensor:
        self.count.mul_(0.9).add_(y.mean() * 0.1)
        return y - self.count

    def read_before(self, y: Tensor) -> Tensor:
        z = y + self.count
        self.count.copy_(y.mean())
        return z

    def through_a_view(self, y: Tensor) -> Tensor:
        self.count[0] += 1
        return y * self.count

    def plain_in_place(self, y: Tensor) -> Tensor:
        self.plain += 1
        return y + self.plain

    def plain_assigned(self, y: Tensor) -> Tensor:
        z = y + self.plain
        self.plain = y.mean()
        return z

    def data(self, y: Tensor) -> Tensor:
        self.count.data = self.count + 1
        return y + self.count

    def only_counted(self, y: Tensor) -> Tensor:
        self.count += 1
        return y * 2

    def only_kept(self, y: Tensor) -> Tensor:
        self.plain = y
        return y * 2


@pytest.mark.parametrize(
    "how", ["counted", "assigned", "statistics", "read_before", "through_a_view", "plain_in_place", "plain_assigned"]
)
@pytest.mark.parametrize("inside", [False, True])
def test_a_tensor_that_is_read_and_written_is_no_constant(how: str, inside: bool) -> None:
    model: Any = made(Stateful(how))
    name = "plain" if "plain" in how else "count"
    where, full = ("1", f"1.{name}") if inside else ("Stateful", name)
    whole = nn.Sequential(nn.Identity(), model) if inside else model
    message = f"^{where}: the forward reads '{full}' and writes to it, so each call computes something else. Fold"
    with pytest.raises(InvalidArgument, match=message):
        capture(whole, example_inputs(whole, X))


def test_data_that_is_set_is_named_with_its_line() -> None:
    model = made(Stateful("data"))
    with pytest.raises(InvalidArgument, match=r"state.py:\d+: a tensor whose .data is set is not captured"):
        capture(model, example_inputs(model, X))


@pytest.mark.parametrize(("how", "name"), [("only_counted", "count"), ("only_kept", "plain")])
def test_a_write_that_nothing_reads_is_noted(how: str, name: str) -> None:
    model: Any = made(Stateful(how))
    before = model.count.clone(), model.plain
    captured = capture(nn.Sequential(model), example_inputs(model, X))
    assert captured.writes == {1: f"0.{name}"}
    assert torch.equal(model.count, before[0])
    assert model.plain is before[1]


def test_the_exporter_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    class Halved(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.max_pool2d(x, 3, 2, ceil_mode=True).flatten(1)[:, :8]

    level = logging.root.manager.disable
    with caplog.at_level(logging.WARNING):
        capture(Halved(), example_inputs(Halved(), torch.randn(1, 3, 13, 13)))
    assert not caplog.records
    assert logging.root.manager.disable == level
