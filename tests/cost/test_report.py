"""Rows, totals under a prefix, the table, and the plain form."""

import json

import pytest
import torch
from torch import nn

from convfold.algebra import hollow
from convfold.cost import cost, counted
from convfold.errors import InvalidArgument, UnknownName


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.bodyguard = nn.Conv2d(4, 4, 1, bias=False)

    def forward(self, x):
        return self.bodyguard(self.body(x) + x)


X = torch.empty(2, 4, 5, 5)


def test_each_operator_belongs_to_the_innermost_module():
    report = cost(Residual(), X)
    assert [(row.path, row.type, row.operators) for row in report.rows] == [
        ("body.0", "Conv2d", 1),
        ("body.1", "BatchNorm2d", 1),
        ("body.2", "ReLU", 1),
        ("", "Residual", 1),
        ("bodyguard", "Conv2d", 1),
    ]
    assert report.rows[0].inputs == ((2, 4, 5, 5),)


def test_hooks_belong_to_the_module_they_are_on():
    model = nn.Sequential(nn.ReLU(), nn.ReLU())
    model[1].register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    model[1].register_forward_hook(lambda module, args, out: out + 1)
    assert [(row.path, row.operators) for row in cost(model, X).rows] == [("0", 1), ("1", 3)]


def test_rows_add_up_to_the_totals():
    report = cost(Residual(), X)
    for figure in ("macs", "convolutions", "operators", "params"):
        assert sum(getattr(row, figure) for row in report.rows) == getattr(report, figure)
    # Two running statistics of four float32 each, and one int64 count of batches.
    assert report.weight_bytes == 4 * (report.params + 8) + 8


def test_totals_under_a_prefix():
    report = cost(Residual(), X)
    assert report.under("") == (report.macs, report.convolutions, report.operators, report.params)
    # "bodyguard" begins with "body", and is not inside it.
    assert report.under("body") == (50 * 4 * 4 * 9, 1, 3, 4 * 4 * 9 + 4 + 8)
    assert report.under("bodyguard") == (50 * 4 * 4, 1, 1, 16)
    assert report.under("body.2") == (0, 0, 1, 0)


def test_totals_include_parameters_of_modules_that_executed_nothing():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 4)

        def forward(self, x):
            return x @ self.inner.weight.t()

    report = cost(nn.Sequential(Reads()), torch.empty(2, 3))
    assert report.under("0") == (24, 1, 1, 16)
    assert report.under("0.inner") == (0, 0, 0, 16)


def test_unknown_prefix_offers_the_nearest():
    with pytest.raises(UnknownName, match=r"got 'body.5'\. Did you mean body\."):
        cost(Residual(), X).under("body.5")


def test_shared_module_and_shared_weight_count_once():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    twin = nn.Conv2d(4, 4, 3, padding=1)
    twin.weight = conv.weight
    report = cost(nn.Sequential(conv, conv, twin), X)
    assert report.params == 4 * 4 * 9 + 4 + 4
    assert report.convolutions == 3
    assert [(row.path, row.convolutions, row.params) for row in report.rows] == [("0", 2, 148), ("2", 1, 4)]
    assert report.under("1") == report.under("0")


def test_plain_form_survives_json():
    report = cost(Residual(), X)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["macs"] == report.macs
    assert plain["rows"][0]["outputs"] == [[2, 4, 5, 5]]
    assert plain["uncounted"] == {}


def test_rows_have_every_figure():
    report = cost(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()), X)
    conv, norm, act = report.rows
    assert (conv.flops, norm.flops, act.flops) == (2 * 50 * 8 * 4 * 9, 2 * 400, 400)
    assert (conv.weight_bytes, norm.weight_bytes, act.weight_bytes) == (4 * 8 * 4 * 9, 4 * 4 * 8 + 8, 0)
    assert (conv.activation_bytes, norm.activation_bytes, act.activation_bytes) == (1600, 1600, 1600)
    # Read and written once: the input or map, the weights, the result.
    assert conv.traffic_bytes == 4 * 200 + 4 * 8 * 4 * 9 + 1600
    assert act.traffic_bytes == 3200
    assert [row.receptive_field for row in report.rows] == [(3, 3)] * 3
    assert (conv.degrees_of_freedom, norm.degrees_of_freedom, act.degrees_of_freedom) == (8 * 4 * 9, 16, 0)
    assert conv.intensity == conv.flops / conv.traffic_bytes
    assert cost(nn.Identity(), X).intensity == 0
    for figure in ("flops", "weight_bytes", "activation_bytes", "traffic_bytes", "degrees_of_freedom"):
        assert sum(getattr(row, figure) for row in report.rows) == getattr(report, figure)
    assert report.receptive_field == 3
    # The convolution's result and that of BN are held together.
    assert report.peak_bytes >= 3200


@pytest.mark.parametrize("build", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [1, 2])
def test_kernel_rank_is_that_of_outputs_by_inputs(build, groups):
    conv = build(4, 8, 3, groups=groups)
    with torch.no_grad():
        blocks = conv.weight.view(groups, -1, *conv.weight.shape[1:])
        if conv.transposed:
            # One output of each group is another's double.
            blocks[:, :, 1] = 2 * blocks[:, :, 0]
        else:
            blocks[:, 1] = 2 * blocks[:, 0]
    report = cost(conv, X)
    assert report.rows[0].kernel_rank == 8 - groups
    assert report.to_dict()["rows"][0]["kernel_rank"] == 8 - groups
    assert cost(hollow(conv), X).rows[0].kernel_rank is None
    assert cost(nn.ReLU(), X).rows[0].kernel_rank is None


def test_a_weight_that_is_computed_is_not_asked_for():
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 8, 3))
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    assert cost(layer.train(), X).rows[0].kernel_rank is None
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_a_step_of_training_is_told_where_it_is_asked_for():
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 1))
    assert cost(model, X).training is None
    report = cost(model, X, training=True)
    first, last = 18 * 8 * 4 * 9, 18 * 2 * 8
    assert report.macs == report.training.forward_macs == first + last
    assert report.training.macs == 2 * first + 3 * last
    assert f"step of training: {2 * first + 3 * last:,} MACs" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["training"]["macs"] == report.training.macs
    frozen = nn.Conv2d(4, 8, 3).requires_grad_(False)
    with pytest.raises(InvalidArgument, match="no output depends on a parameter that is trained"):
        cost(frozen, X, training=True)


def test_work_alone_is_the_same_work():
    full, work = cost(Residual(), X), counted(Residual(), X)
    for figure in ("macs", "flops", "convolutions", "operators", "params", "weight_bytes", "held", "names"):
        assert getattr(work, figure) == getattr(full, figure)
    assert (work.peak_bytes, work.traffic_bytes, work.receptive_field) == (0, 0, 0)
    assert work.rows[0].kernel is None


def test_table_is_aligned_and_holds_every_row():
    report = cost(Residual(), X)
    lines = str(report).splitlines()
    table = lines[: len(report.rows) + 4]
    assert len({len(line) for line in table}) == 1
    assert "(model)" in str(report)
    assert f"{report.macs:,}" in table[-1]
    assert lines[-1].startswith(f"weights: {report.weight_bytes:,} bytes; most held at one time: ")
    assert lines[-1].endswith("receptive field: 3")
