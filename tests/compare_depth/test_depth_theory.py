"""The laws of a linear chain: balanced start, induced preconditioner, invariant, flow, and largest learning rate."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

pytest.importorskip("scipy")
pytest.importorskip("sklearn")

import itertools

from convfold.errors import ConvfoldError, InvalidArgument
from convfold.studies.compare.depth.chain import balanced, gain, gradients, imbalance, preconditioned, product
from convfold.studies.compare.depth.descent import descend, recorded
from convfold.studies.compare.depth.flow import flow, largest_rate
from convfold.studies.compare.depth.problems import TASKS, Classification, Regression

DEPTHS = (1, 2, 3, 4)
SHAPES = ((1, 1), (1, 6), (6, 1), (4, 8), (8, 4), (5, 5))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scalar(teacher: float, start: float, p: int = 2) -> Regression:
    one = torch.ones(1, 1, dtype=torch.float64)
    return Regression(one, teacher * one, start * one, p)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_the_start_is_the_map_and_balanced(shape: tuple[int, int], depth: int) -> None:
    start = normal(*shape)
    factors = balanced(start, depth)
    assert len(factors) == depth
    assert min(min(f.shape) for f in factors) == min(shape)
    assert (product(factors) - start).abs().max() < 1e-13
    assert imbalance(factors) < 1e-13


def test_a_chain_without_factors_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="depth: a chain has at least one factor: got 0, expected 1 or more"):
        balanced(normal(2, 2), 0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_gradients_of_factors_are_autograds(shape: tuple[int, int], depth: int) -> None:
    factors = [factor.requires_grad_() for factor in balanced(normal(*shape), depth)]
    weighting = normal(*shape, seed=1)
    loss = (product(factors) * weighting).sin().sum()
    expected = torch.autograd.grad(loss, factors)
    end = product(factors).detach().requires_grad_()
    (slope,) = torch.autograd.grad((end * weighting).sin().sum(), end)
    for found, wanted in zip(gradients([f.detach() for f in factors], slope), expected, strict=True):
        assert (found - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_step_of_the_factors_is_the_preconditioned_step_up_to_the_square_of_the_rate(
    shape: tuple[int, int], depth: int
) -> None:
    """Autograd moves the factors; the map's own step is predicted. Halving the rate quarters what is left."""
    start, target = normal(*shape), normal(*shape, seed=1)
    factors = [factor.requires_grad_() for factor in balanced(start, depth)]
    torch.autograd.grad(((product(factors) - target) ** 4).sum(), factors)
    slope = 4 * (start - target) ** 3

    def left(rate: float) -> float:
        fresh = [factor.detach().requires_grad_() for factor in factors]
        found = torch.autograd.grad(((product(fresh) - target) ** 4).sum(), fresh)
        moved = product([f.detach() - rate * g for f, g in zip(fresh, found, strict=True)])
        return float((moved - (start - rate * preconditioned(start, slope, depth))).norm())

    rates = [2.0**-e / float(slope.norm()) for e in (12, 13, 14)]
    errors = [left(rate) for rate in rates]
    if depth == 1:
        assert max(errors) < 1e-14
        return
    for larger, smaller in itertools.pairwise(errors):
        assert larger / smaller == pytest.approx(4, rel=0.02)


@pytest.mark.parametrize("depth", DEPTHS)
def test_one_output_has_the_closed_form(depth: int) -> None:
    w, g = normal(1, 7), normal(1, 7, seed=1)
    along = float((g * w).sum() / w.square().sum()) * w
    expected = float(w.norm()) ** (2 - 2 / depth) * (g + (depth - 1) * along)
    assert (preconditioned(w, g, depth) - expected).abs().max() < 1e-13
    one = torch.full((1, 1), -0.3, dtype=torch.float64)
    assert float(preconditioned(one, one, depth)) == pytest.approx(-0.3 * depth * 0.3 ** (2 - 2 / depth), rel=1e-13)


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_preconditioner_is_the_sum_of_powers(depth: int) -> None:
    """By eigenvectors of both Gram matrices, full and square: no singular vectors, no thin factors."""
    weight, gradient = normal(4, 8), normal(4, 8, seed=1)

    def power(gram: Tensor, exponent: float) -> Tensor:
        values, vectors = torch.linalg.eigh(gram)
        # The null space's eigenvalues are rounding, which a root would make large.
        values = torch.where(values < 1e-12, 0.0, values) ** exponent
        return (vectors * values) @ vectors.T

    expected = sum(
        power(weight @ weight.T, (depth - j) / depth) @ gradient @ power(weight.T @ weight, (j - 1) / depth)
        for j in range(1, depth + 1)
    )
    assert (preconditioned(weight, gradient, depth) - expected).abs().max() < 1e-12
    assert (preconditioned(weight.T, gradient.T, depth) - preconditioned(weight, gradient, depth).T).abs().max() < 1e-12


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_no_movement_from_zero(depth: int) -> None:
    assert not preconditioned(torch.zeros(3, 4, dtype=torch.float64), normal(3, 4), depth).any()


@pytest.mark.parametrize("depth", DEPTHS)
def test_the_gain_equalises_the_first_decrease(depth: int) -> None:
    problem = TASKS["matrix-p4-k10-small"].problem(3)
    first, slope = problem.loss_and_gradient(problem.start)
    rate = 1e-6 * float(first) / (gain(problem.start, slope, depth) * float(slope.square().sum()))
    losses = descend(problem, depth, [rate], 1).losses[:, 0]
    assert 1 - float(losses[1] / losses[0]) == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("depth", [2, 3, 4])
def test_balance_drifts_with_the_rate_and_vanishes_with_it(depth: int) -> None:
    """A flow keeps ``W_{j+1}^T W_{j+1} - W_j W_j^T``; descent for one time at half the rate drifts half as far."""
    problem = TASKS["matrix-p2-k10-small"].problem(0)
    drifts = [descend(problem, depth, [2.0 / steps], steps).imbalance[0] for steps in (400, 800, 1600)]
    for larger, smaller in itertools.pairwise(drifts):
        assert larger / smaller == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("name", ["vector-p2-k10-small", "matrix-p4-k10-small", "targets-p4-k100-unit", "digits-unit"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_descent_tends_to_the_flow_with_its_rate(name: str, depth: int) -> None:
    """Euler's method is of first order: at half the rate it is half as far from the flow."""
    problem = TASKS[name].problem(1)
    if isinstance(problem, Classification):
        problem = replace(problem, inputs=problem.inputs[:, :100], labels=problem.labels[:100])
    first, slope = problem.loss_and_gradient(problem.start)
    until = 1.0 * float(first) / (gain(problem.start, slope, depth) * float(slope.square().sum()))
    there = flow(problem, depth, until, [1e-9 * float(first)]).map(until)
    assert float((there - problem.start).norm()) > 0.05 * float(problem.start.norm())
    errors = []
    for steps in (64, 128):
        reached = descend(problem, depth, [until / steps], steps, keep=[steps]).maps
        assert reached is not None
        errors.append(float((reached[0, 0] - there).norm()))
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)


def test_the_flow_of_two_scalar_factors_is_logistic() -> None:
    """``dw/dt = 2 w (s - w)`` has ``w(t) = s / (1 + (s/w0 - 1) exp(-2 s t))`` (Saxe et al., arXiv 1312.6120)."""
    s, w0 = 1.7, 0.02
    found = flow(scalar(s, w0), 2, 4.0, [1e-12])
    for t in (0.1, 0.7, 1.3, 2.5, 4.0):
        expected = s / (1 + (s / w0 - 1) * math.exp(-2 * s * t))
        assert float(found.map(t)) == pytest.approx(expected, rel=1e-6)


def test_the_flow_of_one_scalar_at_the_fourth_power() -> None:
    """``dr/dt = -r^3`` has ``r(t) = r0 / sqrt(1 + 2 r0^2 t)``, and so the times when the loss is at each level."""
    r0 = 1.9
    found = flow(scalar(2.0, 2.0 - r0, p=4), 1, 50.0, [r0**4 / 4 * 0.3, r0**4 / 4 * 0.01])
    for share, time in zip((0.3, 0.01), found.crossings, strict=True):
        assert time == pytest.approx((share**-0.5 - 1) / (2 * r0**2), rel=1e-6)
    assert found.end == found.crossings[-1]
    assert flow(scalar(2.0, 0.1, p=4), 1, 0.01, [1e-9]).crossings == (None,)


@pytest.mark.parametrize("depth", [3, 4])
def test_the_flow_of_more_scalar_factors_takes_the_integrals_time(depth: int) -> None:
    """``t = integral dw / (N w^(2-2/N) (s - w))`` from w0, by the midpoint rule in log w."""
    s, w0, w1 = 1.2, 0.05, 1.1
    count = 200_000
    step = math.log(w1 / w0) / count
    points = w0 * torch.exp(step * (torch.arange(count, dtype=torch.float64) + 0.5))
    time = float((step * points / (depth * points ** (2 - 2 / depth) * (s - points))).sum())
    assert float(flow(scalar(s, w0), depth, time, [1e-12]).map(time)) == pytest.approx(w1, rel=1e-6)


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("depth", [1, 2])
def test_a_flow_that_cannot_be_integrated_is_a_sentence(depth: int) -> None:
    problem = scalar(math.inf, 1.0)
    with pytest.raises(ConvfoldError, match=f"depth {depth}: the flow cannot be integrated: got "):
        flow(problem, depth, 1.0, [1e-3])


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("name", ["vector-p2-k10-unit", "matrix-p2-k100-unit", "targets-p2-k100-unit"])
def test_below_the_largest_rate_descent_stays_at_the_teacher_and_above_it_leaves(name: str, depth: int) -> None:
    problem = TASKS[name].problem(2)
    assert isinstance(problem, Regression)
    near = replace(problem, start=problem.teacher + 1e-6 * normal(*problem.teacher.shape))
    limit = largest_rate(near, depth)
    losses = descend(near, depth, [0.98 * limit, 1.02 * limit], 150).losses
    assert losses[150, 0] < losses[0, 0]
    assert losses[150, 1] > losses[0, 1]


def test_a_lost_chain_is_told_from_one_that_is_done() -> None:
    problem = TASKS["vector-p4-k10-unit"].problem(0)
    found = descend(problem, 3, [0.01, 1e3], 60, keep=[0, 60])
    alone = descend(problem, 3, [0.01], 60)
    assert torch.allclose(found.losses[:, 0], alone.losses[:, 0], rtol=1e-12, atol=0)
    assert found.last(1) is None
    assert found.settled(1e-3, 1) is None
    assert found.maps is not None
    assert found.maps[1, 1].isnan().all()
    assert math.isnan(found.imbalance[1])
    share = float(found.losses[40, 0] / found.losses[0, 0])
    assert found.settled(share, 0) == 40


def test_records_begin_dense_and_end_with_the_last_step() -> None:
    found = recorded(1000)
    assert found[:6] == [0, 1, 2, 3, 4, 5]
    assert found[-1] == 1000
    assert found == sorted(set(found))


def test_a_chain_that_passes_by_the_minimum_has_not_settled() -> None:
    """One factor at ``rate = 1.9 / h`` swings around the teacher: |1 - 1.9|^2 of the loss is left after each step."""
    losses = descend(scalar(1.0, 0.0), 1, [1.9, 2.0], 60)
    assert losses.settled(0.5, 0) == 4  # 0.81^3 > 0.5 >= 0.81^4
    assert losses.settled(0.5, 1) is None
    # At a rate beyond 2 / (2 s h) two factors come near the teacher and leave again.
    found = descend(scalar(1.0, 0.3), 2, [1.1], 200)
    assert float(found.losses.min()) < 0.01 * float(found.losses[0, 0])
    assert found.settled(0.05, 0) is None
