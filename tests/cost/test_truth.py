"""Every counter case: its law, on meta tensors and in a real run."""

import pytest
import torch

from convfold.algebra import hollow
from convfold.cost import cost
from convfold.studies.bench.counters.table import CASES, case_named


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_there_are_sixty_cases_and_more_of_different_names():
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_count_is_the_law(case):
    report = cost(case.build(), case.inputs())
    assert (report.macs, report.uncounted) == (case.macs.value, {})
    # Where a case can be counted on meta tensors, it must be.
    assert bool(report.real_run) == case.real
    assert report.flops >= 2 * report.macs


class ReadsValues(torch.nn.Module):
    """Cannot run on meta tensors, so that its layer is counted in a real run."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, *inputs):
        assert all(bool(value.isfinite().all()) for value in inputs)
        return self.layer(*inputs)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("case", [case for case in CASES if not case.real], ids=lambda case: case.name)
def test_a_real_run_counts_the_same(case):
    report = cost(ReadsValues(case.build()), case.inputs())
    assert report.real_run
    assert (report.macs, report.uncounted) == (case.macs.value, {})


def test_a_hollow_model_is_counted_too():
    case = case_named("Conv2d")
    assert cost(hollow(case.build()), case.inputs()).macs == case.macs.value
