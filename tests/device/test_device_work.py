"""What operators ask for: kinds and counts of cases against what is executed, and rows of a report as work."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import convfold
from convfold.cost.device.cases import Case, Values, cases
from convfold.cost.device.rows import works
from convfold.cost.device.work import CONVOLUTIONS, KINDS, Work
from convfold.cost.report import CostReport
from device.machines import machine


@pytest.mark.parametrize("case", cases(4, held_out=False, scale=0.01), ids=str)
def test_a_case_runs_what_it_says(case: Case) -> None:
    call = case.make(Values(torch.device("cpu")))
    with FlopCounterMode(display=False) as counter:
        out = call()
    if case.kind in (*CONVOLUTIONS, "linear"):
        assert counter.get_total_flops() == case.work.flops
        assert case.work.kind == case.kind
    assert isinstance(out, torch.Tensor)
    if case.kind != "linear":
        assert tuple(out.shape) == case.written
    assert bool(out.isfinite().all())


def test_bytes_are_those_of_operands_and_result() -> None:
    # Depthwise 3x3 on 8 channels at 5x5: maps in and out, and nine weights a channel, of four bytes.
    work = Case("depthwise", 1, 8, 8, 5, kernel=3, groups=8).work
    assert work == Work("depthwise", 8 * 25 * 9, 4 * (8 * 25 + 8 * 9 + 8 * 25))
    assert work.intensity == 2 * 8 * 25 * 9 / (4 * (16 * 25 + 72))


class Net(nn.Module):
    """One layer of each kind, under a name that says which."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Conv2d(16, 32, 3, padding=1)
        self.pointwise = nn.Conv2d(32, 24, 1)
        self.norm = nn.BatchNorm2d(24)
        self.grouped = nn.Conv2d(24, 48, 3, groups=4)
        self.depthwise = nn.Conv2d(48, 48, 5, groups=48, stride=2)
        self.dilated = nn.Conv2d(48, 16, 3, dilation=2)
        self.transposed = nn.ConvTranspose2d(16, 8, 2, 2)
        self.pooling = nn.MaxPool2d(2)
        self.elementwise = nn.ReLU()
        self.linear = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.transposed(self.dilated(self.depthwise(self.grouped(self.norm(self.pointwise(self.dense(x)))))))
        return self.linear(self.elementwise(self.pooling(y)).mean((2, 3)))


def counted() -> tuple[Net, CostReport]:
    model = Net().eval()
    return model, convfold.cost(model, torch.randn(2, 16, 24, 24))


def test_rows_are_read_as_what_they_are() -> None:
    model, report = counted()
    for row in report.rows:
        if row.path not in KINDS:
            continue
        (work,) = works(row, model.get_submodule(row.path))
        assert (work.kind, work.bytes, work.calls) == (row.path, row.traffic_bytes, row.operators)
        if row.path != "pooling":
            assert work.macs == row.macs
        # Shapes and counts alone tell all but a dilation.
        (inferred,) = works(row)
        assert inferred.kind == ("dense" if row.path == "dilated" else row.path)


def test_a_row_of_many_operators_is_its_products_and_the_rest() -> None:
    class Functional(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(super().forward(x)).relu() + 1

    report = convfold.cost(Functional(8, 8, 3, padding=1), torch.randn(1, 8, 6, 6))
    heavy, rest = works(report.rows[0])
    assert (heavy.kind, heavy.macs, heavy.calls) == ("dense", 2 * 36 * 8 * 8 * 9, 2)
    assert (rest.kind, rest.calls, rest.bytes) == ("elementwise", 2, 0)


def test_latency_is_a_row_s_law_and_sums_to_the_model_s() -> None:
    model, report = counted()
    device = machine()
    seconds = device.latency(report, model)
    assert len(seconds) == len(report.rows)
    for row, taken in zip(report.rows, seconds, strict=True):
        pieces = works(row, model.get_submodule(row.path))
        assert taken == pytest.approx(sum(device.laws[work.kind].seconds(work) for work in pieces), rel=1e-12)
        assert taken > 0
    assert device.predict(report.rows[0]) == pytest.approx(device.latency(report)[0], rel=1e-12)


@pytest.mark.parametrize(("intensity", "flops"), [(1.0, 2e10), (2.0, 4e10), (5.0, 1e11), (100.0, 1e11)])
def test_the_roof_is_memory_s_and_then_arithmetic_s(intensity: float, flops: float) -> None:
    assert machine().roof(intensity) == flops
    assert machine().ridge == 5.0
