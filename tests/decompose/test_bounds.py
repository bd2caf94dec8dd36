"""Every method on random kernels: the error within its bound, and nothing lost at full rank."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from convfold.transform.decompose import METHODS, decompose
from convfold.transform.decompose.factors import Solution
from convfold.transform.decompose.layer import read_layer
from convfold.transform.decompose.work import weight_outcome
from decompose.kernels import CONV, MODES, check, random_conv

SEEDS = 60
EXACT = [name for name in METHODS if name != "cp"]


@pytest.mark.parametrize("method", METHODS)
def test_the_error_stays_within_the_bound(method: str) -> None:
    for seed in range(SEEDS if method != "cp" else SEEDS // 3):
        check(random_conv(seed, method))


@pytest.mark.parametrize("method", METHODS)
def test_the_bound_is_tight(method: str) -> None:
    """A bound of 1 holds for everything: theirs is what the mathematics gives, so nearly the error itself."""
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 3, dtype=torch.float64)
    rank = (5, 4) if method == "tucker" else 3
    _, report = decompose(conv, method, rank=rank, report=True)
    (row,) = report.rows
    assert row.error > 0.05
    # Tucker's is a sum over two projections, which share what they leave out.
    assert row.error >= row.bound * (0.7 if method == "tucker" else 1 - 1e-9)


def test_a_bound_is_passed_by_factors_that_are_off() -> None:
    """The check can fail: factors moved by what no rounding explains are above the bound."""
    torch.manual_seed(1)
    layer = read_layer("", nn.Conv2d(4, 6, 3, dtype=torch.float64))
    method = METHODS["separable"]
    (frame,) = method.at(layer.shape, 2)
    found = method.solver(layer.weight).solve(frame)
    assert weight_outcome(layer, found).error <= weight_outcome(layer, found).bound
    off = (found.weights[0] * 1.001, found.weights[1])
    moved = weight_outcome(layer, Solution(frame, off, found.tail, found.rounding))
    assert moved.error > moved.bound


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("method", EXACT)
def test_full_rank_is_exact_on_every_border(method: str, dims: int) -> None:
    cases = itertools.product((1, 2), MODES, (0, 1, 2, "same"), (True, False))
    tried = 0
    for groups, mode, padding, bias in cases:
        torch.manual_seed(tried)
        conv = CONV[dims](
            4,
            6,
            (3, 2, 3)[:dims],
            stride=1 if padding == "same" else (2, 1, 3)[:dims],
            padding=padding,
            dilation=(1, 2, 1)[:dims],
            groups=groups,
            bias=bias,
            padding_mode=mode,
            dtype=torch.float64,
        )
        shape = read_layer("", conv).shape
        if METHODS[method].unsuited(shape):
            continue
        tried += 1
        row = decompose(conv, method, rank=METHODS[method].full(shape))
        assert isinstance(row, nn.Sequential)
        x = torch.randn(2, 4, *(9, 8, 7)[:dims], dtype=torch.float64)
        assert relative(row(x), conv(x)) <= 1e-12, (groups, mode, padding)
    assert tried == (0 if method == "spatial" and dims == 1 else 64)


@pytest.mark.parametrize("shape", [(3, 16, (3, 3)), (16, 3, (3, 3)), (5, 7, (1, 5)), (7, 5, (5, 1)), (2, 9, (2, 4))])
@pytest.mark.parametrize("method", EXACT)
def test_full_rank_is_exact_for_every_shape(method: str, shape: tuple[int, int, tuple[int, int]]) -> None:
    inputs, outputs, kernel = shape
    torch.manual_seed(0)
    conv = nn.Conv2d(inputs, outputs, kernel, stride=(2, 3), padding=1, dtype=torch.float64)
    layer = read_layer("", conv)
    if METHODS[method].unsuited(layer.shape):
        assert method == "spatial"
        return
    x = torch.randn(2, inputs, 13, 11, dtype=torch.float64)
    full = METHODS[method].full(layer.shape)
    for frame in METHODS[method].at(layer.shape, full):
        outcome = weight_outcome(layer, METHODS[method].solver(layer.weight).solve(frame))
        assert outcome.error <= min(1e-12, outcome.bound), frame
    assert relative(decompose(conv, method, rank=full)(x), conv(x)) <= 1e-12


def test_every_form_of_a_rank_is_within_its_bound() -> None:
    """Only the cheapest form is used, so all are tried here: every order of axes, 1x1 first or last, parts left out."""
    torch.manual_seed(3)
    layer = read_layer("", nn.Conv3d(4, 6, (3, 1, 2), groups=2, dtype=torch.float64))
    forms = 0
    for name, method in METHODS.items():
        rank = (3, 2) if name == "tucker" else 2
        solver = method.solver(layer.weight)
        for frame in method.at(layer.shape, rank):
            outcome = weight_outcome(layer, solver.solve(frame))
            assert outcome.error <= outcome.bound
            forms += 1
    assert forms == 1 + 2 + 2 + 3 + 2


def relative(y: Tensor, truth: Tensor) -> float:
    return float(((y - truth).abs().max() / truth.abs().max()).detach())
