"""Factors fitted to data: the output's error, its bound, what is chosen, and forms that data may have."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from convfold.transform.decompose import METHODS, decompose
from convfold.transform.decompose.data import read_data
from convfold.transform.decompose.layer import read_layer
from convfold.transform.decompose.moments import Moments, patches
from convfold.transform.decompose.refine import principal, refine


def smooth(count: int, channels: int, size: int, seed: int = 0) -> Tensor:
    """Maps whose channels and positions go together, as those of pictures do: there data has something to say."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 2, 3, 3, generator=generator)
    maps = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    mix = torch.randn(channels, 2, generator=torch.Generator().manual_seed(9))
    noise = torch.randn(count, channels, size, size, generator=generator)
    return torch.einsum("ck,nkhw->nchw", mix, maps) + 0.1 * noise


@pytest.mark.parametrize("inputs", ["original", "compressed"])
@pytest.mark.parametrize("method", METHODS)
def test_the_output_error_is_smaller_than_that_of_the_kernel_s_factors(method: str, inputs: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2, bias=False)).double()
    x = smooth(40, 6, 8).double()
    rank = 2 if method != "tucker" else (2, 2)
    fitted, report = decompose(model, method, rank=rank, data=x, inputs=inputs, report=True)
    plain = decompose(model, method, rank=rank)
    for row in report.rows:
        assert row.decomposed
        assert row.error <= row.bound
        assert row.error == pytest.approx(row.bound, rel=1e-6)
        assert row.held_out is not None
        assert row.validation is not None
        assert row.fitted == ("data" if row.validation["data"] <= row.validation["weights"] else "weights")
        # With so few ranks and such data there is a difference; where there were none, the test would say nothing.
        if row.fitted == "data":
            assert row.held_out["data"] < row.held_out["weights"]
    assert any(row.fitted == "data" for row in report.rows)
    assert error(fitted, model, x) < error(plain, model, x)
    assert error(fitted, model, smooth(20, 6, 8, seed=1).double()) < error(plain, model, smooth(20, 6, 8, 1).double())


def error(changed: nn.Module, model: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((changed(x) - model(x)).norm() / model(x).norm())


@pytest.mark.parametrize("method", METHODS)
def test_the_error_of_a_row_is_that_of_the_outputs(method: str) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(4, 6, 3, stride=2, padding=(2, 1), padding_mode="reflect", dilation=(1, 2)).double()
    x = smooth(12, 4, 9).double()
    rank = 2 if method != "tucker" else (2, 2)
    row, report = decompose(conv, method, rank=rank, data=x, report=True)
    assert report.rows[0].error == pytest.approx(error(row, conv, x), rel=1e-9)
    assert report.rows[0].error <= report.rows[0].bound


def test_max_error_is_the_error_of_each_output_over_the_data() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3)).double()
    x = smooth(30, 6, 8).double()
    for method in ("svd", "spatial"):
        small, report = decompose(model, method, max_error=0.2, data=[x[:11], x[11:]], report=True)
        hidden = x
        for index, row in ((0, report.rows[0]), (2, report.rows[1])):
            assert row.decomposed
            assert row.bound <= 0.2
            assert error(small[index], model[index], hidden) == pytest.approx(row.error, rel=1e-6)
            hidden = model[: index + 2](x) if index == 0 else hidden
        # The kernels of a random layer have no low rank: data alone makes this possible.
        assert not any(r.decomposed for r in decompose(model, method, max_error=0.2, report=True)[1].rows)


def test_full_rank_is_exact_with_data_too() -> None:
    torch.manual_seed(3)
    conv, x = nn.Conv2d(4, 6, 3, padding=1).double(), smooth(10, 4, 6).double()
    for method in ("svd", "spatial", "separable", "tucker"):
        full = METHODS[method].full(read_layer("", conv).shape)
        row, report = decompose(conv, method, rank=full, data=x, report=True)
        assert error(row, conv, x) <= 1e-12
        assert report.rows[0].bound <= 1e-12


def test_moments_know_the_error_of_any_change() -> None:
    torch.manual_seed(4)
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=1, groups=2, padding_mode="circular", dtype=torch.float64)
    layer, x = read_layer("", conv), torch.randn(3, 4, 7, 6, dtype=torch.float64)
    change, shift = torch.randn(2, 3, 2 * 6, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    with torch.no_grad():
        y = conv(x)
        conv.weight += change.reshape(conv.weight.shape)
        conv.bias += shift.flatten()
        moved = conv(x)
        conv.weight -= change.reshape(conv.weight.shape)
        conv.bias -= shift.flatten()
    moments = Moments.of(layer, x)
    assert moments.square(change, shift) == pytest.approx(float((moved - y).square().sum()), rel=1e-12)
    assert moments.output == pytest.approx(float(y.square().sum()), rel=1e-12)
    wanted = torch.randn_like(y)
    other = Moments.of(layer, x, wanted)
    assert other.square(change, shift) == pytest.approx(float((moved - wanted).detach().square().sum()), rel=1e-12)
    best = other.square(change, other.best_shift(change))
    assert all(best <= other.square(change, other.best_shift(change) + 0.01 * torch.randn(2, 3)) for _ in range(5))
    linear = read_layer("", nn.Linear(5, 2, dtype=torch.float64))
    assert patches(linear, torch.randn(2, 3, 5))[0][1].shape == (1, 6, 5)


def test_principal_factors_are_the_best_and_refining_never_loses() -> None:
    generator = torch.Generator().manual_seed(5)
    target = torch.randn(1, 5, 8, generator=generator, dtype=torch.float64)
    root = torch.randn(1, 8, 8, generator=generator, dtype=torch.float64)
    metric = root @ root.mT

    def loss(product: Tensor) -> float:
        gap = product - target
        return float(((gap @ metric) * gap).sum())

    basis, reduced, values = principal(target, metric, 2)
    least = loss(basis @ reduced)
    assert least == pytest.approx(float(values[0, 2:].sum()), rel=1e-9)
    shape = read_layer("", nn.Conv1d(8, 5, 1)).shape
    (frame,) = METHODS["svd"].at(shape, 2)
    start = METHODS["svd"].solver(target.unsqueeze(-1)).solve(frame).weights
    found = refine(frame.parts, start, 1, target, metric)
    assert loss(found[1].reshape(1, 5, 2) @ found[0].reshape(1, 2, 8)) == pytest.approx(least, rel=1e-3)
    assert loss(start[1].reshape(1, 5, 2) @ start[0].reshape(1, 2, 8)) > 1.05 * least


def test_budgets_count_output_errors() -> None:
    torch.manual_seed(6)
    model = nn.Sequential(nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3))
    x = smooth(30, 6, 8)
    for method in ("svd", "tucker"):
        _, report = decompose(model, method, target_macs=0.6, data=x, report=True)
        assert report.macs_after <= 0.6 * report.macs_before
        for row in report.rows:
            assert row.error <= row.bound


def test_forms_of_data() -> None:
    torch.manual_seed(7)
    model, x = nn.Conv2d(4, 6, 3), smooth(10, 4, 6)
    loader: Any = DataLoader(TensorDataset(x, torch.zeros(10)), batch_size=4)
    expected = decompose(model, "svd", rank=2, data=x)(x)
    for data in (loader, [x[:3], x[3:]], [(x, "label")], [{"input": x}], (batch for batch in [x])):
        assert torch.allclose(decompose(model, "svd", rank=2, data=data)(x), expected, rtol=1e-4, atol=1e-5)


def test_parts_of_data_do_not_meet() -> None:
    x = torch.arange(20.0).reshape(10, 2, 1, 1)
    samples = read_data(nn.Conv2d(2, 2, 1), [x[:7], x[7:]])
    assert samples.counts == (6, 2, 2)
    seen = [float(v) for part in samples.parts for batch in part for v in batch.args[0][:, 0, 0, 0]]
    assert sorted(seen) == [float(v) for v in x[:, 0, 0, 0]]
    assert samples.one.args[0].shape[0] == 1


def test_with_too_few_samples_nothing_is_chosen() -> None:
    conv, x = nn.Conv2d(4, 6, 3), smooth(2, 4, 6)
    _, report = decompose(conv, "svd", rank=2, data=x, report=True)
    assert report.rows[0].fitted == "data"
    assert report.rows[0].held_out is None
    assert "Fitted to 2 samples" in str(report)


def test_kernel_factors_are_kept_where_validation_prefers_them() -> None:
    """Fitted to samples that are unlike the rest, data's factors lose on validation."""
    torch.manual_seed(8)
    conv = nn.Conv2d(6, 8, 3).double()
    x = torch.randn(10, 6, 5, 5, dtype=torch.float64)
    fit = torch.tensor([i % 5 in (0, 1, 3) for i in range(10)])
    x[fit] *= torch.tensor([1.0, 0, 0, 0, 0, 0]).reshape(1, 6, 1, 1)  # only the first channel is ever seen
    row, report = decompose(conv, "svd", rank=3, data=x, report=True)
    (told,) = report.rows
    assert told.fitted == "weights"
    assert told.validation is not None
    assert told.validation["weights"] < told.validation["data"]
    plain = decompose(conv, "svd", rank=3)
    assert torch.equal(row(x), plain(x))


def test_data_does_not_change_the_model_or_its_mode() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.Dropout()).train()
    mean = model[1].running_mean.clone()
    small = decompose(model, "svd", rank=2, data=smooth(10, 4, 6), inputs="compressed")
    assert torch.equal(model[1].running_mean, mean)
    assert torch.equal(small[1].running_mean, mean)
    assert all(m.training for m in (*model.modules(), *small.modules()))
