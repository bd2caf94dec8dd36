"""The plan of a fold: what changes, what stays and why, and what it costs before and after."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from convfold.cost import CostReport, Totals, cost, counted
from convfold.errors import FileProblem, InvalidArgument, InvalidType, NotEqual, Refusal
from convfold.files import write_text
from convfold.graph import describe
from convfold.graph.conditions import Condition, guard, guarded_by
from convfold.plan.by_graph import OBJECTIVES
from convfold.plan.by_modules import totals
from convfold.plan.decide import decided, has_no_values
from convfold.plan.decision import Decision
from convfold.plan.explanation import Explanation, explanation
from convfold.plan.regions import Region
from convfold.plan.structure import apply_changes, changes, read_changes
from convfold.plan.table import render
from convfold.verify import Certificate

__all__ = ["Plan", "load_plan", "plan"]

_FORMAT = "convfold plan 2"


@dataclass
class Plan:
    """A fold decided, not yet done. Print it; `apply` it; `save` it.

    `regions` become cheaper; `refusals` say what stays and why; `blocking` are those refusals for which
    ``convfold.fold`` raises. `before` and `after` are cost reports, None without example inputs. `keys` maps the
    names of the state dict before to those after. After `apply`, `certificates` holds one for each region.
    """

    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    blocking: tuple[Refusal, ...] = ()
    objective: str = "macs"
    certificates: dict[tuple[str, ...], Certificate] = field(default_factory=dict, repr=False)
    _decision: Decision | None = field(default=None, repr=False)
    _inputs: object = field(default=None, repr=False)
    _held: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def before(self) -> CostReport | None:
        """The cost of the model as it is, None without example inputs."""
        return self._report("before", cost, "report before")

    @property
    def after(self) -> CostReport | None:
        """The cost of the model as it will be; None without example inputs."""
        return self._report("after", cost, "report after")

    @property
    def keys(self) -> dict[str, str]:
        """Each name of the state dict before, with the name after that holds what became of it."""
        if "keys" not in self._held and self._decision is not None:
            self._held["keys"] = self._decision.keys()
        return dict(self._held["keys"])

    @property
    def limits(self) -> tuple[str, ...]:
        """The sizes of inputs that the fold holds for, in sentences; none where it holds for all.

        A model is captured at fixed sizes where torch cannot leave them open, and along one way where its forward
        branches on a size. The folded model raises InvalidArgument for inputs of other sizes.
        """
        return tuple(self._held.get("limits", ())) if self._decision is None else self._decision.limits

    def _report(self, which: str, count: Callable[[nn.Module, object], CostReport], key: str) -> CostReport | None:
        """The cost before or after, kept under `key`: `count` is `cost`, or `counted` where its figures suffice."""
        if self._decision is None or self._inputs is None:
            return None
        if key not in self._held:
            found = self._decision.model if which == "before" else self._decision.shadow()
            try:
                self._held[key] = count(found, self._inputs)
            except InvalidArgument:
                if which == "before":
                    raise
                # The data decide what is executed: no structure tells, the folded model does.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of what is rolled back; `apply` says it
                    self._held[key] = count(self._decision.emit()[0], self._inputs)
        return self._held[key]  # type: ignore[no-any-return]

    def _figures(self, which: str) -> CostReport | None:
        return self._report(which, counted, which)

    def apply(self, model: nn.Module | None = None) -> nn.Module:
        """The folded copy of the planned model.

        The original is not touched. Every region is compared in float64; one that is not equal is rolled back
        and added to `refusals`. Given another `model` of the same structure, that one is planned and folded in the
        same way. A loaded plan gives a `model`, freshly built, the folded structure, without folding again: its
        new weights are not a number until the folded ones are loaded into it.

        Raises InvalidArgument when the plan is of another model, NotEqual when the emitted model does not cost
        what was planned.
        """
        if self._decision is None:
            if model is None:
                raise InvalidArgument(
                    "a loaded plan needs the model to apply it to", got="apply()", expected="apply(model)"
                )
            changed = apply_changes(model, self._held["changes"], trusted=False)
            return _guarded(changed, self._held["conditions"])
        if model is not None and model is not self._decision.model:
            apply_changes(model, self._changes())  # raises where the structures differ
            return plan(model, self._inputs, self.objective).apply()
        if has_no_values(self._decision.model):
            raise InvalidArgument(
                "weights on the meta device have no values",
                where=next(name for name, p in self._decision.model.named_parameters() if p.is_meta),
                hint="Load the weights first.",
            )
        folded, self.certificates, rolled_back = self._decision.emit()
        self.refusals += tuple(refusal for refusal in rolled_back if refusal not in self.refusals)
        if self._inputs is not None and not rolled_back:
            _recount(self._figures("after"), counted(folded, self._inputs))
        return folded

    def _changes(self) -> list[dict[str, Any]]:
        if self._decision is None:
            return list(self._held["changes"])
        return changes(self._decision.model, self._decision.shadow(), self._decision.made())

    def _conditions(self) -> dict[str, list[dict[str, Any]]]:
        if self._decision is None:
            found = self._held["conditions"]
        else:
            modules = self._decision.shadow().named_modules()
            found = {path: conditions for path, module in modules if (conditions := guarded_by(module))}
        return {path: [condition.to_dict() for condition in conditions] for path, conditions in found.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        counted = {which: self._totals(which) for which in ("before", "after")}
        return {
            "format": _FORMAT,
            "objective": self.objective,
            "regions": [region.to_dict() for region in self.regions],
            "refusals": [refusal.to_dict() for refusal in self.refusals],
            "blocking": [refusal.to_dict() for refusal in self.blocking],
            "limits": list(self.limits),
            "conditions": self._conditions(),
            "keys": self.keys,
            "changes": self._changes(),
            **{which: None if found is None else found._asdict() for which, found in counted.items()},
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, whole or not at all; `load_plan` reads it. Raises FileProblem."""
        write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")

    def _totals(self, which: str) -> Totals | None:
        report = self._figures(which)
        held = self._held.get(f"{which} totals")
        return totals(report) if report is not None else None if held is None else Totals(**held)

    def explain(self) -> Explanation:
        """For each linear operator beside a convolution, what it was folded into or why not; and both graphs.

        Printable as a table; `Explanation.to_dict` is what the HTML report draws. Raises InvalidArgument for a plan
        that was loaded or made without example inputs: it has seen no graph.
        """
        drawn = getattr(self._decision, "drawn", None)
        if drawn is None:
            raise InvalidArgument("this plan has seen no graph", hint="Make it of a model with example_inputs.")
        inputs = describe(self._inputs)
        costs = {which: self._totals(which) for which in ("before", "after")}
        return explanation(self, drawn(), type(self._decision.model).__name__, inputs, costs)

    def __str__(self) -> str:
        return render(self.regions, self.refusals, self._totals("before"), self._totals("after"), self.limits)


def _guarded(folded: nn.Module, found: dict[str, tuple[Condition, ...]]) -> nn.Module:
    modules = dict(folded.named_modules(remove_duplicate=False))
    for path, conditions in found.items():
        if path not in modules:
            raise InvalidArgument("the plan is not of this model", where=path, got="no such module")
        guard(modules[path], conditions)
    return folded


def _recount(planned: CostReport | None, emitted: CostReport) -> None:
    assert planned is not None  # there were inputs
    expected, got = totals(planned), totals(emitted)
    if expected != got:
        raise NotEqual(
            "the emitted model does not cost what was planned",
            got=got,
            expected=expected,
            hint="Please report this: it is a fault of convfold.",
        )


def plan(model: nn.Module, example_inputs: object = None, objective: str = "macs") -> Plan:
    """Decide the fold of `model` in eval mode; never raises for something that cannot be folded.

    With `example_inputs` (a tensor, a tuple, or a dict of keyword inputs) the model is captured as a graph, and
    every linear region of it gets the cheapest exact form that is found: collapsed, collapsed in part, reordered or
    left alone. The `objective` says what is cheap:

    * "macs": fewer multiply-accumulates, then convolutions, then operators, then elements written; none of the
      first three may rise, in any region;
    * "ops": fewer operators, whatever they cost; * "latency": fewer seconds, each candidate's operators timed on
      this machine (and remembered, see `convfold.plan.search.latency`). These two may trade, and print what.

    Without inputs only modules and the flow between them are used, and costs are None. The model is not touched.
    Raises InvalidArgument when the model does not run on the inputs, for weights that are quantised or sparse, and
    for an unknown objective.
    """
    if not isinstance(model, nn.Module):
        raise InvalidType("plan reads modules", got=type(model).__name__, expected="torch.nn.Module")
    if objective not in OBJECTIVES:
        raise InvalidArgument("unknown objective", got=repr(objective), expected=f"one of {', '.join(OBJECTIVES)}")
    decision, reports = decided(model, example_inputs, objective)
    return Plan(
        decision.regions,
        decision.refusals,
        decision.blocking,
        objective,
        _decision=decision,
        _inputs=example_inputs,
        _held=reports,
    )


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan that `Plan.save` wrote. Raises FileProblem when the file is not one."""
    try:
        fields = json.loads(Path(path).read_text())
        if fields["format"] != _FORMAT:
            raise ValueError(f"format {fields['format']!r}")
        refusals, blocking = (tuple(Refusal(**r) for r in fields[key]) for key in ("refusals", "blocking"))
        regions = tuple(Region.from_dict(region) for region in fields["regions"])
        held = {"keys": dict(fields["keys"]), "changes": read_changes(fields["changes"])}
        held["limits"] = tuple(map(str, fields.get("limits", ())))
        held["conditions"] = {
            path: tuple(map(Condition.from_dict, found)) for path, found in fields.get("conditions", {}).items()
        }
        held |= {f"{name} totals": fields[name] for name in ("before", "after")}
        return Plan(regions, refusals, blocking, fields["objective"], _held=held)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise FileProblem(f"this is no saved plan ({reason})", where=str(path), expected=_FORMAT) from error
