"""Decided on the whole graph: a model is captured, searched, and emitted with only its changed parts changed."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from convfold.algebra import Conv, ConvTranspose
from convfold.algebra.readings.module import as_module
from convfold.cost import Totals
from convfold.errors import ConvfoldWarning, NotFoldable, Refusal
from convfold.graph import ExampleInputs
from convfold.graph.capture import capture
from convfold.graph.captured import Captured
from convfold.graph.conditions import guard, guarded_by
from convfold.graph.program import Linear, parameters_of
from convfold.graph.weights import Weights
from convfold.plan.emission import Emitted, check, emit
from convfold.plan.explain import describe_node, graphs, left_alone, operator_rows
from convfold.plan.gate import is_below
from convfold.plan.regions import Region, rolled_back
from convfold.plan.search.latency import Stopwatch
from convfold.plan.search.price import FREE, Objective, Price, Pricer, by_latency, by_macs, by_operators, price
from convfold.plan.whole import Part, Whole, modules_of, plan_whole
from convfold.verify import Certificate

__all__ = ["OBJECTIVES", "ByGraph", "by_graph", "decide"]

OBJECTIVES: dict[str, Objective] = {"macs": by_macs, "latency": by_latency, "ops": by_operators}


@dataclass
class ByGraph:
    """The parts of one captured graph that change; `structure` is what they become, without numbers."""

    model: nn.Module
    whole: Whole
    structure: Emitted
    objective: Objective
    pricer: Pricer
    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    blocking: tuple[Refusal, ...]
    undone: tuple[frozenset[int], ...] = ()

    @property
    def change(self) -> Price:
        """What all parts save together, as foretold."""
        return self.whole.change

    @property
    def limits(self) -> tuple[str, ...]:
        """The sizes that the plan holds for, in sentences; none where it holds for all."""
        return self.whole.captured.limits

    def emit(self) -> tuple[nn.Module, dict[tuple[str, ...], Certificate], list[Refusal]]:
        """The folded copy, a certificate for each region, and a refusal for each that was rolled back."""
        certificates: dict[tuple[str, ...], Certificate] = {}
        refused: list[Refusal] = []
        undone = list(self.undone)
        whole, regions = self.whole, self.regions
        while True:
            emitted = emit(whole.captured, whole.after, self.model, Weights)
            wrong = []
            for part, region in zip(whole.parts, regions, strict=True):
                certificate = check(whole.captured, whole.after, emitted, part.values)
                certificates[region.paths] = certificate
                if not certificate:
                    wrong.append((part, region, certificate))
            if not wrong:
                _guard(emitted.module, whole)
                return emitted.module, certificates, refused
            for part, region, certificate in wrong:
                refused.append(rolled_back(region, certificate))
                warnings.warn(ConvfoldWarning(str(refused[-1])), stacklevel=3)
                undone.append(part.values)
            whole, _ = _planned(whole.captured, self.objective, self.pricer, undone)
            regions = tuple(_region(whole, part) for part in whole.parts)

    def shadow(self) -> nn.Module:
        """The structure of the folded copy, on the meta device."""
        return self.structure.module

    def without(self, own: frozenset[str], whole: frozenset[str]) -> ByGraph:
        """The same with what these forwards compute themselves, or all below them, left as it is, and said why."""
        captured, undone = self.whole.captured, []
        for path in own:
            inside = {c.number for c in captured.calls if c.path == path or (path in whole and is_below(c.path, path))}
            undone.append(frozenset(value for value, number in captured.home.items() if number in inside))
        found = _decided(self.model, captured, self.objective, self.pricer, tuple(undone))
        reason = "its forward writes in place: written anew, it would execute more than the fold saves in it"
        named = {path: type(self.model.get_submodule(path)).__name__ for path in sorted(own)}
        why = (Refusal(kind, reason, path) for path, kind in named.items())
        return replace(found, refusals=(*why, *found.refusals))

    def made(self) -> frozenset[str]:
        """Where modules of the fold stand, one that looks as before too."""
        homes = self.structure.homes
        return frozenset(homes[value] for part in self.whole.parts for value in part.changed if value in homes)

    def keys(self) -> dict[str, str]:
        """Old names of the state dict to new; a tensor held under several names has each of them."""
        found, held = self.structure.keys, self.model.state_dict(keep_vars=True)
        by_tensor = {id(held[name]): new for name, new in found.items() if name in held}
        new = {name: found.get(name, by_tensor.get(id(tensor), "")) for name, tensor in held.items()}
        return {name: target for name, target in new.items() if target}

    def drawn(self, path: str = "") -> dict[str, Any]:
        """The graphs before and after, the operators beside convolutions, and number and laws of each region.

        `path` is where the planned model stands in another.
        """
        return {
            "graphs": graphs(self.whole),
            "operators": operator_rows(self.whole, self.refusals, self.structure.homes, path),
            "laws": [(part.number, part.laws) for part in self.whole.parts],
        }


def by_graph(model: nn.Module, given: ExampleInputs, objective: str) -> ByGraph:
    """Capture `model` and search its graph. Raises InvalidArgument where it cannot be captured."""
    return decide(model, capture(model, given), objective)


def decide(model: nn.Module, captured: Captured, objective: str) -> ByGraph:
    """Search the graph of a captured model."""
    accepts = OBJECTIVES[objective]
    pricer: Pricer = price
    if objective == "latency":
        tensor = next(model.parameters(), torch.empty(0))
        pricer = Stopwatch(tensor.device, tensor.dtype)
    found = _decided(model, captured, accepts, pricer, ())
    if isinstance(pricer, Stopwatch):
        pricer.save()
    return found


def _decided(
    model: nn.Module, captured: Captured, accepts: Objective, pricer: Pricer, undone: tuple[frozenset[int], ...]
) -> ByGraph:
    whole, structure = _planned(captured, accepts, pricer, undone)
    _guard(structure.module, whole)
    regions = tuple(_region(whole, part) for part in whole.parts)
    refusals = (*whole.refusals, *left_alone(whole))
    return ByGraph(model, whole, structure, accepts, pricer, regions, refusals, tuple(whole.blocking), undone)


def _guard(module: nn.Module, whole: Whole) -> None:
    """Have a folded copy refuse sizes that its capture, or that of an earlier fold, does not hold for."""
    captured = whole.captured
    guard(module, (*guarded_by(captured.model), *(captured.conditions if whole.parts else ())))


def _planned(
    captured: Captured, accepts: Objective, pricer: Pricer, undone: Iterable[frozenset[int]] = ()
) -> tuple[Whole, Emitted]:
    """The plan and its structure; no part changes where forwards that have to stay leave no way to write it."""
    whole = plan_whole(captured, accepts, pricer, undone)
    try:
        return whole, emit(captured, whole.after, captured.model, None)
    except NotFoldable as error:
        whole = plan_whole(captured, accepts, pricer, [frozenset(captured.home)])
        whole.refusals += [why for why in (error.refusal,) if why not in whole.refusals]
        return whole, emit(captured, whole.after, captured.model, None)


def _region(whole: Whole, part: Part) -> Region:
    """A part as a person reads it: the modules that it takes in, and what becomes of them."""
    captured = whole.captured
    paths = modules_of(captured, part.values) or [""]
    types = tuple(type(captured.model.get_submodule(path)).__name__ for path in paths)
    after = [_result(captured, whole.after.nodes[n]) for n in sorted(part.changed) if n in whole.after.nodes]
    before = _totals(whole, part, original=True)
    return Region(
        tuple(paths),
        types,
        "; ".join(part.laws),
        "; ".join(dict.fromkeys(after)),
        before,
        _totals(whole, part, original=False),
    )


def _totals(whole: Whole, part: Part, *, original: bool) -> Totals:
    program = whole.before if original else whole.after
    numbers: Iterable[int] = (n for n in part.values if n in program.nodes)
    if not original:
        numbers = part.changed
    total, params = FREE, 0
    for number in numbers:
        node = program.nodes[number]
        total = total.plus(price(program, number, node, node is whole.before.nodes.get(number)))
        params += parameters_of(node)
    return Totals(total.macs, total.convolutions, total.operators, params)


def _result(captured: Captured, node: object) -> str:
    """The module that a definition of one convolution becomes, as torch prints it; else a few words."""
    if isinstance(node, Linear) and len(node.terms) == 1 and node.terms[0].map.dense:
        m = node.terms[0].map
        taps = tuple(axis.kernel for axis in m.window)
        outer, inner = (m.cols, m.rows) if m.kind == "transposed" else (m.rows, m.cols)
        weight = torch.empty(outer, inner // m.groups, *taps, device="meta")
        bias = None if node.shift is None else torch.empty(m.rows, device="meta")
        kind = ConvTranspose if m.kind == "transposed" else Conv
        try:
            return repr(as_module(kind(weight, bias, m.window, m.groups)))
        except NotFoldable:
            return describe_node(node)
    return describe_node(node)  # type: ignore[arg-type]
