"""Correlations of constructed channels, exactly; and which layers and channels are looked at."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from convfold import blocks
from convfold.dynamic import CondConv2d, CondLinear
from convfold.errors import InvalidArgument
from convfold.studies.correlate import BINS, CorrelationReport, Moments, correlate, pearson

# Float64 sums over n rows, twice: products of order one, divided by sums of the same order.
CEILING = 1e-12


def orthogonal() -> torch.Tensor:
    """(4, 2, 2, 2): two channels over 16 places, centred, orthogonal, of variance one."""
    u = torch.tensor([1.0, -1.0] * 8, dtype=torch.float64)
    v = torch.tensor([1.0, 1.0, -1.0, -1.0] * 4, dtype=torch.float64)
    return torch.stack([u, v]).reshape(2, 4, 2, 2).transpose(0, 1)


def mixing(rows: list[list[float]], bias: list[float] | None = None) -> nn.Module:
    """A 1x1 convolution with these rows."""
    conv = nn.Conv2d(len(rows[0]), len(rows), 1).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(rows, dtype=torch.float64)[:, :, None, None])
        conv.bias.copy_(torch.tensor(bias or [0.0] * len(rows), dtype=torch.float64))  # type: ignore[union-attr]
    return nn.Sequential(conv)


def correlations(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The matrix itself, by the same moments."""
    moments = Moments()
    moments.add(model(x).detach().movedim(1, -1).flatten(0, -2))
    return pearson(moments)[0]


def test_r_is_exact_on_constructed_channels() -> None:
    # y = (u, -3u, v, 3u + 4v): r = -1, 0, 3/5, ...
    model = mixing([[1, 0], [-3, 0], [0, 1], [3, 4]], bias=[0.0, 1e4, -7.0, 5.0])
    r = correlations(model, orthogonal())
    expected = torch.tensor(
        [[1, -1, 0, 0.6], [-1, 1, 0, -0.6], [0, 0, 1, 0.8], [0.6, -0.6, 0.8, 1]], dtype=torch.float64
    )
    # A mean of 1e4 beside a deviation of 3 costs as many digits of what the layer itself gives.
    assert float((r - expected).abs().max()) <= CEILING * 1e4 / 3
    (row,) = correlate(model, orthogonal()).rows
    assert (row.layer, row.type, row.channels, row.constant, row.rows) == ("0", "Conv2d", 4, 0, 16)
    assert row.mean_abs == pytest.approx((1 + 0 + 0.6 + 0 + 0.6 + 0.8) / 6, abs=1e-9)
    assert row.strong == pytest.approx(4 / 6, abs=1e-12)
    assert row.median_abs == pytest.approx(0.6, abs=1e-9)
    assert sum(row.histogram) == 6
    # -1, -0.6, and the two that are zero up to rounding; 0.6 and 0.8 on the right.
    assert row.histogram[0] == 1
    assert sum(row.histogram[BINS // 2 + 1 :]) == 2


def test_it_is_what_numpy_says_and_parts_do_not_matter() -> None:
    numpy = pytest.importorskip("numpy")
    rows = torch.randn(200_000, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1e3
    whole, parts = Moments(), Moments()
    whole.add(rows)
    for part in rows.split([1, 7, 99_992, 100_000]):
        parts.add(part)
    expected = torch.from_numpy(numpy.corrcoef(rows.numpy().T))
    assert float((pearson(whole)[0] - expected).abs().max()) <= CEILING * 1e3
    assert float((pearson(whole)[0] - pearson(parts)[0]).abs().max()) <= CEILING * 1e3


def test_channels_that_never_vary_are_counted_and_left_out() -> None:
    (row,) = correlate(mixing([[1, 0], [0, 0], [0, 1], [0, 0]], [0.1, 3e7, 0.1, 0.0]), orthogonal()).rows
    assert (row.channels, row.constant) == (4, 2)
    assert row.mean_abs == pytest.approx(0, abs=CEILING)
    (alone,) = correlate(mixing([[1, 0], [0, 0]]), orthogonal()).rows
    assert alone.mean_abs is None
    assert sum(alone.histogram) == 0


def test_a_normalisation_changes_no_size_of_r() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)).double().eval()
    with torch.no_grad():
        for values in (model[1].weight, model[1].bias, model[1].running_mean):
            values.normal_()  # type: ignore[union-attr,operator]
    assert bool((model[1].weight < 0).any())
    before, after = correlate(model, orthogonal(), "*").rows[:2]
    assert before.mean_abs == pytest.approx(after.mean_abs, abs=CEILING)
    assert before.histogram != after.histogram  # the sign of r changes with that of gamma


def test_a_mixture_and_a_block_are_one_layer_and_models_are_not_touched() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(CondConv2d(2, 4, 3, conv="dbb"), blocks.ACNetConv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 3))
    model = model.double().train()
    x = torch.randn(4, 2, 5, 5, dtype=torch.float64)
    found = correlate(model, x)
    assert [row.layer for row in found.rows] == ["0", "1"]
    assert model.training
    assert all(not module._forward_hooks for module in model.modules())


def test_without_a_convolution_it_is_linear_layers_with_channels_last() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), CondLinear(4, 5))
    found = correlate(model, torch.randn(6, 7, 3))
    assert [(row.layer, row.channels, row.rows) for row in found.rows] == [("0", 4, 42), ("2", 5, 42)]
    with_conv = nn.Sequential(nn.Conv1d(3, 4, 2), nn.Linear(6, 5))
    assert [(row.channels, row.rows) for row in correlate(with_conv, torch.randn(6, 3, 7)).rows] == [(4, 36)]
    chosen = correlate(with_conv, torch.randn(6, 3, 7), "1")
    assert [(row.channels, row.rows) for row in chosen.rows] == [(5, 24)]


def test_a_layer_that_runs_twice_is_seen_twice() -> None:
    conv = nn.Conv2d(2, 2, 1)
    assert correlate(nn.Sequential(conv, nn.ReLU(), conv), torch.randn(3, 2, 2, 2)).rows[0].rows == 24


def test_channels_of_noise_are_as_alike_as_chance_makes_them() -> None:
    torch.manual_seed(0)
    report = correlate(mixing([[1.0 if i == j else 0.0 for j in range(40)] for i in range(40)]), _noise(40, 9))
    chance = math.sqrt(2 / (math.pi * 8))
    # |r| of 780 pairs: its deviation is below 0.22, and pairs share channels (a factor of a few).
    assert report.mean_abs == pytest.approx(chance, abs=0.05)
    assert f"about {chance:.2f} on average" in report.notice
    assert report.notice in str(report)
    assert correlate(mixing([[1, 0], [0, 1]]), _noise(2, 200)).notice == ""


def _noise(channels: int, places: int) -> torch.Tensor:
    return torch.randn(1, channels, places, 1, dtype=torch.float64)


def test_two_reports_are_one_table() -> None:
    one = correlate(mixing([[1, 0], [0, 1]]), orthogonal())
    two = correlate(nn.Sequential(*mixing([[1, 0], [1, 1]]), nn.Conv2d(2, 3, 1).double()), orthogonal())
    text = one.against(two, ("static", "dynet"))
    assert "mean |r| static" in text
    assert "mean |r| dynet" in text
    (first,) = (line for line in text.splitlines() if line.startswith("0 "))
    assert "0.000" in first
    assert f"{1 / math.sqrt(2):.3f}" in first
    (second,) = (line for line in text.splitlines() if line.startswith("1 "))
    assert "–" in second
    assert isinstance(one, CorrelationReport)


def test_bad_input_is_a_sentence() -> None:
    conv = nn.Sequential(nn.Conv2d(2, 3, 1))
    with pytest.raises(InvalidArgument, match=r"where reaches no module.*'convs\*'.*named like"):
        correlate(conv, torch.randn(1, 2, 4, 4), "convs*")
    with pytest.raises(InvalidArgument, match="no convolution and no Linear layer"):
        correlate(nn.Sequential(nn.ReLU()), torch.randn(1, 2))
    with pytest.raises(InvalidArgument, match="does not run on these example inputs"):
        correlate(conv, torch.randn(1, 5, 4, 4))
    with pytest.raises(InvalidArgument, match=r"no layer has outputs.*seen at one place only; give more samples"):
        correlate(conv, torch.randn(1, 2, 1, 1))
    with pytest.raises(InvalidArgument, match="output is not finite"):
        correlate(conv, torch.full((1, 2, 4, 4), float("nan")))


def test_layers_without_figures_are_told() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.many = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1), nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.many(x)
            self.many(x[:, :1])
            return self.used(x)  # type: ignore[no-any-return]

    assert correlate(Two(), torch.randn(2, 2, 4, 4)).left_out == {"unused": "it does not run"}
    left_out = correlate(Two(), torch.randn(2, 2, 4, 4), "*u*e*").left_out
    assert left_out == {"unused": "it does not run"}
    left_out = correlate(Two(), torch.randn(2, 2, 4, 4), "[um][sa]*").left_out
    assert left_out == {"many": "it gives other numbers of channels in one pass"}

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = Pair(), nn.Conv2d(2, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x)[0])  # type: ignore[no-any-return]

    assert "no tensor of real numbers" in correlate(Outer(), torch.randn(2, 2, 4, 4), "?").left_out["a"]
