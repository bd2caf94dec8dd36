"""decompose on models: what is kept, what stays and why, budgets, and the report."""

import copy
import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

import convfold
from convfold.transform.decompose import METHODS, Report, decompose, is_separable, separability


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(24, 24, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(24, 32, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def reasons(report: Report) -> dict[str, str]:
    return {row.layer: row.reason for row in report.rows if not row.decomposed}


def test_the_original_is_untouched_and_the_copy_is_of_its_class() -> None:
    model = net().train()
    state = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    small = decompose(model, "svd", rank=4, example_inputs=X)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert type(small) is nn.Sequential
    assert isinstance(small[3], nn.Sequential)
    assert all(module.training for module in small.modules())
    assert not {id(p) for p in small.parameters()} & {id(p) for p in model.parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_dtype_layout_mode_gradients_and_hooks_are_kept(method: str) -> None:
    conv: Any = nn.Conv2d(8, 8, 3, padding=1).to(torch.bfloat16).to(memory_format=torch.channels_last).eval()
    conv.weight.requires_grad_(False)
    seen: list[Tensor] = []
    conv.register_forward_hook(lambda module, args, out: seen.append(out))
    row: Any = decompose(conv, method, rank=3 if method != "tucker" else (3, 3))
    assert {p.dtype for p in row.parameters()} == {torch.bfloat16}
    assert not row.training
    assert [p.requires_grad for p in row.parameters()] == [False] * len(row) + [True]
    assert row[-1].bias.requires_grad
    assert torch.equal(row[-1].bias, conv.bias)
    wide = [part.weight for part in row if part.weight[0, 0].numel() > 1 and part.weight.shape[1] > 1]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in wide)
    row(torch.randn(1, 8, 6, 6, dtype=torch.bfloat16))
    assert len(seen) == 1


def test_the_macs_are_those_that_cost_counts() -> None:
    model = net()
    for method in METHODS:
        small, report = decompose(model, method, rank=0.4, report=True, example_inputs=X)
        assert report.macs_before == convfold.cost(model, X).macs
        assert report.macs_after == convfold.cost(small, X).macs
        assert report.macs_after < report.macs_before
        assert not report.per_position
    assert decompose(model, "svd", rank=4, report=True)[1].per_position


def test_without_sizes_macs_count_one_position() -> None:
    conv = nn.Conv2d(4, 6, 3, stride=2)
    _, report = decompose(conv, "spatial", rank=2, report=True)
    # The first part runs before the stride along the other axis: at two positions for each of the output.
    assert (report.rows[0].macs_before, report.rows[0].macs_after) == (4 * 6 * 9, 2 * (2 * 4 * 3) + 6 * 2 * 3)


@pytest.mark.parametrize("method", METHODS)
def test_max_error_holds_on_each_layer_at_the_least_macs(method: str) -> None:
    model = net()
    with torch.no_grad():  # kernels that low ranks come close to
        for layer in (model[3], model[5]):
            flat = layer.weight.flatten(1)
            left, values, right = torch.linalg.svd(flat, full_matrices=False)
            layer.weight.copy_(((left * values * 0.6 ** torch.arange(len(values))) @ right).view_as(layer.weight))
    small, report = decompose(model, method, max_error=0.5, report=True, example_inputs=X)
    done = [row for row in report.rows if row.decomposed]
    assert done
    for row in done:
        assert row.error <= row.bound <= 0.5
        assert row.macs_after < row.macs_before
        if isinstance(row.rank, int) and row.rank > 1 and method != "cp":
            lower = decompose(model, method, rank={row.layer: row.rank - 1}, report=True, example_inputs=X)[1]
            assert next(r for r in lower.rows if r.decomposed).bound > 0.5 or method in ("svd", "spatial")
    assert small(X).shape == model(X).shape


def test_target_macs_are_reached_at_less_error_than_one_fraction_for_all() -> None:
    model = net()
    whole = convfold.cost(model, X).macs
    small, report = decompose(model, "svd", target_macs=0.6, report=True, example_inputs=X)
    assert convfold.cost(small, X).macs == report.macs_after <= 0.6 * whole
    assert report.macs_after > 0.5 * whole, "what is left of the budget buys error back"
    fraction = next(f / 100 for f in range(99, 1, -1) if _even(model, f / 100).macs_after <= 0.6 * whole)
    assert report.total_error < _even(model, fraction).total_error
    number, again = decompose(model, "svd", target_macs=int(0.6 * whole), report=True, example_inputs=X)
    assert again.macs_after == report.macs_after
    assert torch.equal(number(X), small(X))


def _even(model: nn.Module, fraction: float) -> Report:
    return decompose(model, "svd", rank=fraction, report=True, example_inputs=X)[1]


def test_total_error_is_kept_and_spent() -> None:
    model = net()
    costs = []
    for limit in (0.3, 0.8):
        _, report = decompose(model, "separable", total_error=limit, report=True, example_inputs=X)
        assert report.total_error <= limit
        costs.append(report.macs_after)
    assert costs[1] < costs[0] <= convfold.cost(model, X).macs


def test_ranks_by_layer_by_glob_and_as_fractions() -> None:
    model = net()
    _, report = decompose(model, "svd", rank={"3": 5, "[57]": 0.5}, report=True, example_inputs=X)
    assert {row.layer: row.rank for row in report.rows} == {"0": None, "3": 5, "5": 6, "7": 12}
    assert reasons(report) == {"0": "no rank was given for it"}
    _, report = decompose(model, "tucker", rank=(6, 5), report=True, example_inputs=X)
    assert next(row for row in report.rows if row.layer == "3").rank == (6, 5)
    assert "above the full rank, 16 out, 3 in" in reasons(report)["0"]


def test_a_rank_is_obeyed_where_it_is_asked_for_by_name_and_held_to_the_cost_elsewhere() -> None:
    conv = nn.Conv2d(8, 8, 3)
    assert isinstance(decompose(conv, "separable", rank=8), nn.Sequential)
    assert type(decompose(conv, "separable", rank=8, only_cheaper=True)) is nn.Conv2d
    model = nn.Sequential(conv, nn.Conv2d(8, 8, 3))
    _, report = decompose(model, "separable", rank=8, report=True)
    assert reasons(report) == dict.fromkeys("01", "rank 8 is not cheaper: 1,088 MACs for 576")
    assert "Nothing is decomposed" in str(report)
    _, report = decompose(model, "separable", rank={"1": 8}, report=True)
    assert [row.rank for row in report.rows] == [None, 8]


def test_linear_layers_by_svd_where_they_are_chosen() -> None:
    model = net().double()
    small = decompose(model, "svd", rank=4, where="10")
    assert [type(part) for part in small[10]] == [nn.Linear, nn.Linear]
    assert type(decompose(model, "svd", rank=4)[10]) is nn.Linear
    alone = nn.Linear(6, 9, dtype=torch.float64)
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    row, report = decompose(alone, "svd", rank=6, report=True, example_inputs=x)
    assert float((row(x) - alone(x)).abs().max().detach()) <= 1e-12
    assert report.macs_after == 20 * (6 * 6 + 6 * 9)


def test_a_module_called_twice_is_replaced_in_both_places_and_counted_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(8, 8, 3, padding=1)
            self.b = self.a

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    model, x = Twice(), torch.randn(1, 8, 6, 6)
    small, report = decompose(model, "svd", rank=3, report=True, example_inputs=x)
    assert small.a is small.b
    assert report.macs_before == convfold.cost(model, x).macs == 2 * 36 * 576
    assert report.macs_after == convfold.cost(small, x).macs


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.conv(x)) * self.conv.weight.mean()


class Own(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).abs()


def refused(layer: nn.Module, method: str = "svd", **options: Any) -> str:
    model = nn.Sequential(layer, nn.Conv2d(4, 4, 3))
    _, report = decompose(model, method, rank=1, report=True, **options)
    return reasons(report)["0"]


def test_what_cannot_be_decomposed_stays_with_its_reason() -> None:
    assert refused(nn.ConvTranspose2d(4, 4, 3)) == "it is a transposed convolution"
    assert refused(parametrizations.weight_norm(nn.Conv2d(4, 4, 3))) == "its weight is parametrised"
    with pytest.warns(FutureWarning):
        old = weight_norm(nn.Conv2d(4, 4, 3))
    assert refused(old) == "its weight is computed anew in each call"
    assert refused(Own(4, 4, 3)) == "Own computes something of its own"
    assert refused(nn.Conv2d(4, 4, 3, device="meta")) == "its weight is on the meta device: it has no numbers"
    spoilt = nn.Conv2d(4, 4, 3)
    spoilt.weight.data[0, 0, 0, 0] = float("nan")
    assert refused(spoilt) == "its weights are not finite"
    assert refused(nn.Conv2d(4, 4, 1), "separable") == "its kernel has one tap: it is pointwise already"
    assert refused(nn.Conv2d(4, 4, 1), "tucker") == "its kernel has one tap: svd is for it"
    assert refused(nn.Conv2d(4, 4, 1), "cp") == "its kernel has one tap: svd is for it"
    assert refused(nn.Conv2d(4, 4, 3, groups=4)) == "it is depthwise: there is one channel between already"
    assert refused(nn.Conv2d(4, 4, 3, groups=4), "tucker") == "it is depthwise: it has no channels to reduce"
    one = "its kernel has one axis of more than one tap: nothing to split between"
    assert refused(nn.Conv2d(4, 4, (1, 3)), "spatial") == one
    assert reasons(decompose(nn.Conv1d(4, 4, 3), "spatial", rank=1, report=True)[1]) == {"": one}
    linear = nn.Sequential(nn.Linear(4, 4))
    _, report = decompose(linear, "separable", rank=1, where="0", report=True)
    assert reasons(report) == {"0": "a Linear layer has no axis to separate; svd is for it"}


def test_shared_and_read_weights_stay() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    model[1].weight = model[0].weight
    _, report = decompose(model, "svd", rank=1, report=True)
    assert reasons(report) == dict.fromkeys("01", "its weight is shared with another module")
    for inputs in (None, torch.randn(1, 4, 6, 6)):
        _, report = decompose(Reads(), "svd", rank=1, report=True, example_inputs=inputs)
        assert reasons(report) == {"conv": "its weight is read outside of its own call too"}


def test_a_layer_that_does_not_run_stays() -> None:
    class Half(Reads):
        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    _, report = decompose(Half(), "svd", rank=1, report=True, example_inputs=torch.randn(1, 4, 6, 6))
    assert reasons(report) == {"other": "it does not run on the example inputs"}


def test_a_bound_that_no_cheaper_rank_keeps_is_told() -> None:
    _, report = decompose(nn.Conv2d(8, 8, 3), "separable", max_error=0.0, report=True)
    (row,) = report.rows
    assert "is the least it can be held to with fewer MACs than the layer itself" in row.reason
    assert (row.bound, row.error, row.macs_before) == (0.0, 0.0, row.macs_after)
    _, report = decompose(nn.Conv2d(1, 1, 3), "svd", max_error=0.1, report=True)
    assert reasons(report) == {"": "it is depthwise: there is one channel between already"}
    _, report = decompose(nn.Conv2d(2, 1, (1, 2)), "cp", max_error=0.1, report=True)
    assert reasons(report) == {"": "no rank has fewer MACs than the layer itself"}


def test_the_report_prints_and_becomes_json() -> None:
    _, report = decompose(net(), "tucker", rank=0.5, report=True, example_inputs=X)
    told = json.loads(json.dumps(report.to_dict()))
    assert [row["layer"] for row in told["rows"]] == ["0", "3", "5", "7"]
    assert told["macs_after"] == report.macs_after
    text = str(report)
    assert "12, 8" in text
    assert "its kernel has one tap: svd is for it" in text
    assert f"{report.macs_before:,} -> {report.macs_after:,}" in text


def test_whether_a_kernel_is_separable() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, 3)
    assert not is_separable(conv)
    residual = separability(conv)
    assert residual.shape == (5,)
    truth = torch.linalg.svdvals(conv.weight[:, 2].detach().double().flatten(1))
    assert float(residual[2]) == pytest.approx(float(truth[1:].norm() / truth.norm()), rel=1e-12)
    with torch.no_grad():
        conv.weight.copy_(torch.randn(7, 5, 1, 1) * torch.randn(1, 5, 3, 3))
    assert is_separable(conv)
    assert float(separability(conv).max()) < 1e-7
    with torch.no_grad():
        conv.weight[3, 2, 1, 1] += 1e-5
    assert not is_separable(conv)
    assert is_separable(conv, tolerance=1e-4)
    grouped = nn.Conv1d(4, 6, 5, groups=2, dtype=torch.float64)
    assert separability(grouped).shape == (4,)
    assert is_separable(nn.Conv2d(6, 6, 3, groups=6))
    with torch.no_grad():
        grouped.weight.zero_()
    assert is_separable(grouped)
    assert float(separability(grouped).max()) == 0
