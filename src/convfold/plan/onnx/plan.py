"""The plan of a fold of an ONNX file: what changes, what stays and why, what it costs before and after."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from convfold.cost import Totals
from convfold.errors import InvalidArgument, NotFoldable, Refusal
from convfold.graph.onnx.captured import CapturedFile
from convfold.graph.onnx.nodes import opset_of
from convfold.graph.program import Node, Program, parameters_of
from convfold.plan.by_graph import OBJECTIVES
from convfold.plan.explain import describe_node, graphs, operator_rows
from convfold.plan.explanation import Explanation, explanation
from convfold.plan.onnx.best import best
from convfold.plan.onnx.check import check
from convfold.plan.onnx.emit import emit
from convfold.plan.onnx.price import pricer
from convfold.plan.regions import Region
from convfold.plan.search.price import FREE, Price, Pricer
from convfold.plan.search.search import Rewritten
from convfold.plan.table import render
from convfold.plan.whole import Part, Replanned, parts_of
from convfold.verify import Certificate

__all__ = ["FilePlan", "FileWhole", "plan_file", "totals_of"]


@dataclass
class FileWhole(Replanned):
    """A captured file, the program that shall take the place of its own, and its parts."""

    captured: CapturedFile
    found: Rewritten
    parts: tuple[Part, ...]
    kept: frozenset[int]
    refusals: list[Refusal]
    pricer: Pricer

    def module_of(self, value: int) -> str:
        """The module, or else the node, that computes a value."""
        return self.after.values[value].place.module or self.captured.names.get(value, "")


@dataclass
class FilePlan:
    """A fold of a file decided, not yet written. Print it; `explain` it; `model` is what shall be written.

    `regions` become cheaper; `refusals` say what stays and why; `certificates` holds the comparison in float64 of
    each region, by its paths, where the file's operators have a float64 reference.
    """

    name: str
    whole: FileWhole
    model: ir.Model
    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    objective: str
    certificates: dict[tuple[str, ...], Certificate] = field(default_factory=dict)

    @property
    def limits(self) -> tuple[str, ...]:
        """The sizes that the plan holds for: a file says itself which ones it takes."""
        return ()

    @property
    def before(self) -> Totals:
        """What the file executes at the example sizes, counted in nodes."""
        return totals_of(self.whole.captured, self.whole.before, self.whole.pricer, self.whole.captured.model)

    @property
    def after(self) -> Totals:
        """What the folded file executes."""
        return totals_of(self.whole.captured, self.whole.after, self.whole.pricer, self.model)

    def explain(self) -> Explanation:
        """For each linear node beside a convolution, what it was folded into or why not; and both graphs."""
        whole = self.whole
        drawn = {
            "graphs": graphs(whole),
            "operators": operator_rows(whole, self.refusals, {}),
            "laws": [(part.number, part.laws) for part in whole.parts],
        }
        shapes = [f"{name} {'x'.join(map(str, shape))}" for name, shape in whole.captured.example.items()]
        return explanation(self, drawn, self.name, ", ".join(shapes), {"before": self.before, "after": self.after})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "model": self.name,
            "objective": self.objective,
            "inputs": {name: list(shape) for name, shape in self.whole.captured.example.items()},
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "regions": [region.to_dict() for region in self.regions],
            "refusals": [refusal.to_dict() for refusal in self.refusals],
        }

    def __str__(self) -> str:
        return render(self.regions, self.refusals, self.before, self.after)


def totals_of(captured: CapturedFile, program: Program, pricer: Pricer, model: ir.Model) -> Totals:
    """What a program of a file executes, and the elements of the weights of the model that it is written as."""
    total = _total(program, pricer, program.live(captured.alive), captured.program)
    held = [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]
    weights = [tensor for tensor in held if tensor.dtype.is_floating_point()]
    params = sum(math.prod(int(size) for size in tensor.shape) for tensor in weights)
    return Totals(total.macs, total.convolutions, total.operators, params)


def _total(program: Program, pricer: Pricer, values: Iterable[int], before: Program) -> Price:
    total = FREE
    for value in values:
        node = program.nodes.get(value)
        if node is not None:
            total = total.plus(pricer(program, value, node, node is before.nodes.get(value)))
    return total


def plan_file(captured: CapturedFile, name: str, objective: str = "macs", pricing: Pricer | None = None) -> FilePlan:
    """Decide the fold of a captured file, and compare each region in float64; one that is not equal stays as it was.

    `pricing` gives seconds where the objective is "latency". Raises InvalidArgument for an unknown objective.
    """
    if objective not in OBJECTIVES:
        raise InvalidArgument("unknown objective", got=repr(objective), expected=f"one of {', '.join(OBJECTIVES)}")
    prices = pricing or pricer(captured.open, opset_of(captured.model.opset_imports))
    kept: set[int] = set()
    refusals = list(captured.refusals)
    while True:
        found = best(captured, frozenset(kept), OBJECTIVES[objective], prices)
        parts = parts_of(found, captured.program)
        whole = FileWhole(captured, found, parts, frozenset(kept), refusals, prices)
        try:
            model = emit(captured, whole.after)
            certificates = check(captured, whole.after)
        except NotFoldable as error:
            refusals.append(error.refusal)
            kept |= set(captured.program.nodes)
            continue
        regions = tuple(_region(whole, part) for part in parts)
        proofs: dict[tuple[str, ...], Certificate] = {}
        wrong = []
        for part, region in zip(parts, regions, strict=True):
            found_here = [certificates[value] for value in sorted(part.changed) if value in certificates]
            if found_here:
                proofs[region.paths] = max(found_here, key=lambda one: one.error / max(one.bound, 1e-300))
            if not all(found_here):
                wrong.append((part, region, proofs[region.paths]))
        if not wrong:
            return FilePlan(name, whole, model, regions, tuple(refusals), objective, proofs)
        for part, region, proof in wrong:
            reason = proof.complaint
            refusals.append(Refusal(region.types[0], reason, region.paths[0], "Please report this."))
            kept |= {value for value in part.values if value < len(captured.program.values)}


def _region(whole: FileWhole, part: Part) -> Region:
    """A part as a person reads it: the modules or nodes that it takes in, and what becomes of them."""
    program, nodes = whole.before, whole.before.nodes
    values = [value for value in sorted(part.values) if value in nodes]
    places = dict.fromkeys(program.values[value].place.module for value in values)
    after = [describe_node(whole.after.nodes[value]) for value in sorted(part.changed) if value in whole.after.nodes]
    return Region(
        tuple(places) or ("",),
        tuple(program.values[value].place.operator for value in values) or ("",),
        "; ".join(part.laws),
        "; ".join(dict.fromkeys(after)),
        _figures(_total(program, whole.pricer, values, program), (nodes[value] for value in values)),
        _figures(
            _total(whole.after, whole.pricer, part.changed, program),
            (whole.after.nodes[value] for value in part.changed if value in whole.after.nodes),
        ),
    )


def _figures(total: Price, nodes: Iterable[Node | None]) -> Totals:
    return Totals(total.macs, total.convolutions, total.operators, sum(map(parameters_of, nodes)))
