"""What is said of routers, on routers made for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convfold.dynamic import CondConv2d
from convfold.studies.compare.dynamic.network import started
from convfold.studies.compare.dynamic.seen import channel_correlations, routing


def gated(weight: float, bias: float = 0.0) -> nn.Module:
    """One channel, one expert: pi = sigmoid(weight * GAP(x) + bias)."""
    layer = CondConv2d(1, 1, 1, num_experts=1)
    with torch.no_grad():
        layer.router.last.weight.fill_(weight)  # type: ignore[union-attr]
        layer.router.last.bias.fill_(bias)  # type: ignore[union-attr]
    return nn.Sequential(layer)


def images(means: list[float]) -> torch.Tensor:
    return torch.tensor(means).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()


def test_a_router_that_sees_nothing_has_no_spread() -> None:
    found = routing(gated(0.0, 0.7), images([0.0, 1.0, 2.0, 3.0]), both_ways=True)
    assert found == {"spread": 0.0, "inversion": 0.0}
    assert routing(started("static", 0), torch.randn(4, 1, 8, 8), both_ways=True) is None


def test_spread_is_the_deviation_over_the_mean() -> None:
    x = images([0.0, 1.0])
    pi = torch.sigmoid(torch.tensor([0.0, 2.0], dtype=torch.float64))
    found = routing(gated(2.0), x, both_ways=False)
    assert found is not None
    assert found["spread"] == pytest.approx(float(pi.std(correction=0) / pi.mean()), rel=1e-6)
    assert "inversion" not in found


def test_the_share_of_inversion_is_one_when_only_that_is_seen_and_zero_when_it_is_not() -> None:
    only = routing(gated(1.0), images([1.0, 1.0, -1.0, -1.0]), both_ways=True)
    never = routing(gated(1.0), images([1.0, -1.0, 1.0, -1.0]), both_ways=True)
    assert only is not None
    assert never is not None
    assert only["inversion"] == pytest.approx(1.0, abs=1e-12)
    assert never["inversion"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", ["static", "wide", "condconv", "dynet"])
def test_correlations_are_of_the_same_layers_in_every_kind(kind: str) -> None:
    x = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = channel_correlations(started(kind, 0), x)
    assert list(found) == [f"blocks.{block}.chain.convs.{conv}" for block in (0, 1) for conv in (0, 1)]
    assert all(value is not None and 0 < value < 1 for value in found.values())
