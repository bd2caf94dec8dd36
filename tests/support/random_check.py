"""A random graph folded, and held to the original: values in float64, costs, state, and folding once more."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

import convfold
from convfold.graph.capture import export
from support.random_figures import COSTS, Mismatch, Outcome
from support.random_graphs import RandomGraph

__all__ = ["CEILING", "Mismatch", "Outcome", "check_graph"]

# Relative to the largest output; these graphs are well-scaled, and rounding stays near 1e-15.
CEILING = 1e-12
# Outputs may cancel: the scale is not less than this share of the inputs'.
LEAST_SCALE = 1e-3


def _run(model: nn.Module, inputs: Sequence[Tensor]) -> tuple[list[Any], Any]:
    with torch.no_grad():
        return tree_flatten(model(*(x.clone() for x in inputs)))


def _error(model: nn.Module, folded: nn.Module, inputs: Sequence[Tensor]) -> float:
    wanted, structure = _run(model, inputs)
    found, other = _run(folded, inputs)
    if structure != other:
        raise Mismatch(f"the outputs are {other}, not {structure}")
    least = LEAST_SCALE * max(float(x.abs().max()) for x in inputs)
    worst = 0.0
    for index, (a, b) in enumerate(zip(wanted, found, strict=True)):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise Mismatch(f"output {index} is {b.dtype} {list(b.shape)}, not {a.dtype} {list(a.shape)}")
        error = float((a - b).abs().max()) / max(float(a.abs().max()), least)
        worst = max(worst, error if math.isfinite(error) else math.inf)
    if not worst <= CEILING:
        sizes = ", ".join(str(list(x.shape)) for x in inputs)
        raise Mismatch(f"error {worst:.2e} on inputs {sizes}")
    return worst


def _elsewhere(model: nn.Module, folded: nn.Module, inputs: Sequence[Tensor]) -> tuple[str, float]:
    try:
        _run(model, inputs)
    except RuntimeError:
        return "original refuses", 0.0
    try:
        _run(folded, inputs)
    except Exception:  # however a module that is bound to one size says so
        return "fold refuses", 0.0
    return "equal", _error(model, folded, inputs)


def _costs(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[int, ...]:
    report = convfold.cost(model, inputs)
    return tuple(getattr(report, name) for name in COSTS)


def _folded(model: nn.Module, inputs: tuple[Tensor, ...]) -> nn.Module:
    plan = convfold.plan(model, inputs)
    known = len(plan.refusals)
    folded = plan.apply()
    if len(plan.refusals) > known:
        # What is rolled back was planned wrong or emitted wrong; a user is safe from it, this test is not.
        raise Mismatch(f"rolled back: {plan.refusals[known]}")
    return folded


@contextmanager
def fixed_sizes(fixed: bool) -> Iterator[None]:
    """Capture at the given sizes alone where `fixed`: a third of the time, for models that no other size will see."""
    if not fixed:
        yield
        return
    attempts = export._attempts
    export._attempts = lambda tensors: [(tensors, [{} for _ in tensors])]
    try:
        yield
    finally:
        export._attempts = attempts


def check_graph(graph: RandomGraph, twice: bool = False, fixed: bool = False) -> Outcome:
    """Fold the graph and compare; with `twice`, fold the outcome again. Raises Mismatch, or what folding raises.

    With `fixed` the graph is captured at its own sizes alone, and not run at others.
    """
    with fixed_sizes(fixed):
        return _check(graph, twice, elsewhere=not fixed)


def _check(graph: RandomGraph, twice: bool, elsewhere: bool) -> Outcome:
    model, inputs, second = graph.model, graph.inputs, "not done"
    state = copy.deepcopy(model.state_dict())
    folded = _folded(model, inputs)
    error = _error(model, folded, inputs)
    batch, batch_error, size, size_error = "not run", 0.0, "not run", 0.0
    if elsewhere:
        batch, batch_error = _elsewhere(model, folded, graph.other_batch)
        size, size_error = _elsewhere(model, folded, graph.other_size)
    if batch == "fold refuses":
        raise Mismatch("it does not run on another batch, which the original does")
    before, after = _costs(model, inputs), _costs(folded, inputs)
    for name, was, now in zip(COSTS, before, after, strict=True):
        if now > was:
            raise Mismatch(f"more {name}: {was} -> {now}")
    now_state = model.state_dict()
    if state.keys() != now_state.keys() or not all(torch.equal(state[key], now_state[key]) for key in state):
        raise Mismatch("the original was changed")
    if twice:
        again = _folded(folded, inputs)
        error = max(error, _error(model, again, inputs))
        costs = _costs(again, inputs)
        if any(now > was for was, now in zip(after, costs, strict=True)):
            raise Mismatch(f"folding again changes {after} to {costs}")
        # The search is local: from another start it may come further down.
        second = "the same" if costs == after else "cheaper"
    return Outcome(max(error, batch_error, size_error), before, after, batch, size, second)
