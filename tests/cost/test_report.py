"""Rows, totals under a prefix, the table, and the plain form."""

import json

import pytest
import torch
from torch import nn

from convfold.cost import cost
from convfold.errors import UnknownName


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


def test_table_is_aligned_and_holds_every_row():
    report = cost(Residual(), X)
    lines = str(report).splitlines()
    table = lines[: len(report.rows) + 4]
    assert len({len(line) for line in table}) == 1
    assert "(model)" in str(report)
    assert f"{report.macs:,}" in table[-1]
    assert lines[-1] == f"weights: {report.weight_bytes:,} bytes"
