"""Which way a model is looked at, and the last gate: what is planned is cheaper as a whole."""

from __future__ import annotations

from typing import Any

from torch import nn

from convfold.cost import counted
from convfold.errors import InvalidArgument
from convfold.graph import example_inputs as read_inputs
from convfold.graph.capture import check_tensors
from convfold.plan.by_graph import ByGraph, by_graph
from convfold.plan.by_mixtures import by_mixtures
from convfold.plan.by_modules import by_modules
from convfold.plan.by_parts import ByParts, by_parts
from convfold.plan.decision import Decision
from convfold.plan.gate import cheaper_only

__all__ = ["decided", "has_no_values"]


def decided(model: nn.Module, example_inputs: object, objective: str) -> tuple[Decision, dict[str, Any]]:
    """The decision, and the cost reports that were made on the way to it. Mixtures first: what is left is planned."""
    mixed = by_mixtures(model, example_inputs, lambda rest: _static(rest, example_inputs, objective)[0])
    return _static(model, example_inputs, objective) if mixed is None else (mixed, {})


def _static(model: nn.Module, example_inputs: object, objective: str) -> tuple[Decision, dict[str, Any]]:
    if example_inputs is None or has_no_values(model):
        return by_modules(model, example_inputs), {}
    check_tensors(model)
    given = read_inputs(model, example_inputs)
    decision: ByGraph | ByParts
    try:
        decision = by_graph(model, given, objective)
    except InvalidArgument as why:
        decision = by_parts(model, given, objective, why)
    if objective != "macs":
        return decision, {}  # these may trade
    before = counted(model, example_inputs)
    try:
        decision, after = cheaper_only(decision, before, lambda shadow: counted(shadow, example_inputs))
    except InvalidArgument:
        return decision, {"before": before}  # the data decide what is executed: a structure cannot be counted
    return decision, {"before": before, "after": after}


def has_no_values(model: nn.Module) -> bool:
    """Whether a parameter is on the meta device."""
    return any(parameter.is_meta for parameter in model.parameters())
