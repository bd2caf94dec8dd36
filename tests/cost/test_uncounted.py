"""Operators without a formula are told loudly, by name, and never guessed."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.cost import cost
from convfold.cost.report import CostReport
from convfold.errors import InvalidArgument
from convfold.studies.bench.counters.cases import Calls


@torch.library.custom_op("convfold_test::double_it", mutates_args=())
def double_it(x: torch.Tensor) -> torch.Tensor:
    return x * 2


double_it.register_fake(torch.empty_like)

LOUD = {
    "fft": (lambda x: torch.fft.fft(x).real, {"aten._fft_r2c": 1}),
    "stft": (lambda x: torch.stft(x[0], 4, return_complex=True).real, {"aten._fft_r2c": 1}),
    "singular values": (lambda x: torch.linalg.svdvals(x), {"aten._linalg_svd": 1}),
    "inverse": (lambda x: torch.linalg.inv(x), {"aten.linalg_inv_ex": 1}),
    "solve": (lambda x: torch.linalg.solve(x, x), {"aten._linalg_solve_ex": 1}),
    "not torch's own": (lambda x: double_it(double_it(x)), {"convfold_test.double_it": 2}),
    "branches": (lambda x: torch.cond(x.sum() > 0, lambda y: y @ y, lambda y: y + 1, (x,)), {"cond": 1}),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LOUD)
def test_what_has_no_formula_is_listed(name):
    function, operators = LOUD[name]
    x = torch.eye(8) + torch.rand(8, 8) / 100
    report = cost(nn.Sequential(nn.Linear(8, 8), Calls(function)), x)
    assert report.uncounted == operators
    # The rest is counted all the same.
    assert report.macs == 8 * 8 * 8
    listed = ", ".join(f"{key} x{count}" for key, count in operators.items())
    assert f"NOT COUNTED, the totals are too low (no formula): {listed}" in str(report)
    assert report.to_dict()["uncounted"] == operators
    with pytest.raises(InvalidArgument) as caught:
        report.require_counted()
    assert str(caught.value) == (
        "Sequential: operators have no formula, so that the totals are too low: "
        f"got {listed}, expected operators that can be counted. "
        "Without strict counting the rest of the model is counted and these are listed."
    )


def test_what_is_counted_is_not_listed():
    report = cost(nn.Conv2d(3, 3, 1), torch.empty(1, 3, 2, 2))
    assert report.uncounted == {}
    assert "NOT COUNTED" not in str(report)
    report.require_counted()


def test_what_only_the_backward_pass_has_is_required_too():
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            return double_it(grad)

    report = cost(nn.Sequential(nn.Linear(4, 4), Calls(Odd.apply)), torch.ones(2, 4), training=True)
    assert report.uncounted == {}
    with pytest.raises(InvalidArgument, match=r"convfold_test\.double_it x1"):
        report.require_counted()


ORDINARY = {
    "activations": lambda x: F.glu(F.mish(F.hardswish(F.celu(F.logsigmoid(F.rrelu(F.prelu(x, x[0, :, 0, 0]))))))),
    "activations in place": lambda x: F.hardtanh_(F.leaky_relu_(F.silu(x, inplace=True).abs_().sub_(1))),
    "norms": lambda x: F.local_response_norm(F.instance_norm(F.group_norm(F.normalize(x), 2)), 3),
    "reductions": lambda x: (x.std(), x.var(0), x.logsumexp(1), x.norm(), x.prod(), x.argmax(), x.median(), x.any()),
    "sorting": lambda x: (x.sort(1), x.topk(2), x.cumsum(0), x.unique_consecutive() if not x.is_meta else x),
    "padding": lambda x: [F.pad(x, (1, 1, 1, 1), mode) for mode in ("reflect", "replicate", "circular", "constant")],
    "moving": lambda x: torch.cat([x.roll(1), x.flip(0), x.tril()], 2).repeat(2, 1, 1, 1),
    "choosing": lambda x: torch.where(x > 0, x, x.masked_fill(x < 0, 2)).gather(1, torch.zeros_like(x).long()),
    "resizing": lambda x: F.interpolate(F.interpolate(x, size=3, mode="area"), size=5, mode="bicubic", antialias=True),
    "pooling": lambda x: F.lp_pool2d(F.adaptive_max_pool2d(F.max_pool2d(x, 2), 3), 2, 2),
    "unfolding": lambda x: F.fold(F.unfold(x, 2), x.shape[2:], 2),
    "losses": lambda x: F.smooth_l1_loss(x, x) + F.cross_entropy(x, x) + F.kl_div(x, x) + F.mse_loss(x, x),
    "making": lambda x: x + torch.arange(8) + torch.ones(8) + torch.linspace(0, 1, 8) + torch.hann_window(8),
    "drawing": lambda x: F.dropout(x, training=True) + torch.randn(8) + torch.rand_like(x),
    "distances": lambda x: torch.cdist(x[0, 0], x[0, 1]) + F.cosine_similarity(x[0, 0], x[0, 1]),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_operators_are_all_known(name):
    report: CostReport = cost(Calls(ORDINARY[name]), torch.rand(2, 4, 8, 8))
    assert report.uncounted == {}
    assert report.macs == 0
