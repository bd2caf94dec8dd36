"""The plan of a fold: what becomes one convolution, what stays and why, and what it costs before and after."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convfold.algebra import kernel
from convfold.algebra.readings.tensors import tensors, to_meta
from convfold.cost import CostReport, Totals, cost
from convfold.errors import FileProblem, InvalidArgument, InvalidType, NotEqual, Refusal
from convfold.files import write_text
from convfold.graph import Flow, flow_of
from convfold.plan.emit import emit, shadow
from convfold.plan.regions import Region, expression, find_regions
from convfold.plan.table import render
from convfold.verify import Certificate

__all__ = ["Plan", "load_plan", "plan"]

_FORMAT = "convfold plan 1"


@dataclass
class Plan:
    """A fold decided, not yet done. Print it; `apply` it; `save` it.

    `regions` become one convolution each; `refusals` say what stays and why; `blocking` are those refusals for
    which ``convfold.fold`` raises. `before` and `after` are cost reports, None without example inputs.
    After `apply`, `certificates` holds one certificate per region.
    """

    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    blocking: tuple[Refusal, ...] = ()
    before: CostReport | None = None
    after: CostReport | None = None
    keys: dict[str, str] = field(default_factory=dict)
    certificates: dict[tuple[str, ...], Certificate] = field(default_factory=dict, repr=False)
    _model: nn.Module | None = field(default=None, repr=False)
    _inputs: object = field(default=None, repr=False)

    def apply(self, model: nn.Module | None = None) -> nn.Module:
        """The folded copy of the planned model, or of `model`, a freshly built one of the same structure.

        The original is not touched. Every region is compared in float64; one that is not equal is rolled back
        and added to `refusals`. For a `model` given here batch normalisations count with their running
        statistics in either mode, so that folded weights can be loaded into the result. Raises
        InvalidArgument when the plan is of another model, NotEqual when the emitted model does not cost what
        was planned.
        """
        source = self._model if model is None else model
        if source is None:
            raise InvalidArgument(
                "a loaded plan needs the model to apply it to", got="apply()", expected="apply(model)"
            )
        folded, self.certificates, rolled_back = emit(source, self.regions)
        self.refusals += tuple(refusal for refusal in rolled_back if refusal not in self.refusals)
        if self.after is not None and self._inputs is not None and not rolled_back:
            _recount(self.after, cost(folded, self._inputs))
        return folded

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        reports = {"before": self.before, "after": self.after}
        return {
            "format": _FORMAT,
            "regions": [region.to_dict() for region in self.regions],
            "refusals": [refusal.to_dict() for refusal in self.refusals],
            "blocking": [refusal.to_dict() for refusal in self.blocking],
            "keys": dict(self.keys),
            **{name: None if report is None else _totals(report)._asdict() for name, report in reports.items()},
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, whole or not at all; `load_plan` reads it. Raises FileProblem."""
        write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")

    def __str__(self) -> str:
        totals = [None if report is None else _totals(report) for report in (self.before, self.after)]
        return render(self.regions, self.refusals, totals[0], totals[1])


def _totals(report: CostReport) -> Totals:
    return Totals(report.macs, report.convolutions, report.operators, report.params)


def _recount(planned: CostReport, emitted: CostReport) -> None:
    expected, got = _totals(planned), _totals(emitted)
    if expected != got:
        raise NotEqual(
            "the emitted model does not cost what was planned",
            got=got,
            expected=expected,
            hint="Please report this: it is a fault of convfold.",
        )


def plan(model: nn.Module, example_inputs: object = None) -> Plan:
    """Decide the fold of `model` in eval mode; never raises for something that cannot be folded.

    Blocks fold to one convolution; a convolution, transposed convolution or Linear takes in the batch
    normalisations that alone read it. With `example_inputs` (a tensor, a tuple, or a dict of keyword inputs)
    the flow of values is recorded in one run and costs are counted; without, it is read from a symbolic
    trace, and costs are None. A region is kept only if multiply-accumulates, convolutions and operators do
    not rise. The model is not touched. Raises InvalidArgument when the model does not run on the inputs.
    """
    if not isinstance(model, nn.Module):
        raise InvalidType("plan reads modules", got=type(model).__name__, expected="torch.nn.Module")
    flow = flow_of(model, example_inputs)
    found = find_regions(model, flow)
    before = None if example_inputs is None else cost(model, example_inputs)
    regions, dearer = _gate(model, found.regions, flow, before)
    hollow = shadow(model, regions)
    after = None if example_inputs is None else cost(hollow, example_inputs)
    keys = _keys(model, hollow, regions)
    refusals = (*found.refusals, *dearer)
    return Plan(regions, refusals, found.blocking, before, after, keys, {}, model, example_inputs)


def _gate(
    model: nn.Module, regions: tuple[Region, ...], flow: Flow, before: CostReport | None
) -> tuple[tuple[Region, ...], list[Refusal]]:
    """Cost each region, and refuse those that would not get cheaper."""
    kept: list[Region] = []
    refusals: list[Refusal] = []
    for region in regions:
        was, will = _region_costs(model, region, flow, before)
        if any(b > a for a, b in zip(was[:3], will[:3], strict=True)):
            figures = f"{was.macs:,} -> {will.macs:,} MACs, {was.operators} -> {will.operators} operators"
            reason = f"it would not be cheaper: {figures}"
            refusals.append(Refusal(region.types[0], reason, region.paths[0], "block.fold() folds it all the same."))
            continue
        kept.append(replace(region, before=was, after=will) if before is not None else region)
    return tuple(kept), refusals


def _region_costs(model: nn.Module, region: Region, flow: Flow, before: CostReport | None) -> tuple[Totals, Totals]:
    """What the region costs in all its calls, and what its one convolution will.

    Where no shapes were seen, both are compared on a map that the window fits into.
    """
    members = [model.get_submodule(path) for path in region.paths]
    whole = expression(members)
    head = members[0] if len(members) == 1 else nn.Sequential(*members)
    plain = shadow(head, (replace(region, paths=("",)),) if len(members) == 1 else (_local(region),))
    shapes = [call.shape for call in flow.of(region.paths[0]) if call.shape is not None]
    if not shapes:
        window = kernel(to_meta(whole)).window
        shapes = [(1, whole.in_channels, *(axis.span + 16 for axis in window))]
    like = next(tensors(whole), torch.empty(0))
    pairs = [
        (cost(head, like.new_empty(shape, device="meta")), cost(plain, like.new_empty(shape, device="meta")))
        for shape in shapes
    ]
    was = _sum([_totals(a) for a, _ in pairs])
    will = _sum([_totals(b) for _, b in pairs])
    return was, will


def _local(region: Region) -> Region:
    return replace(region, paths=tuple(str(index) for index in range(len(region.paths))))


def _sum(totals: list[Totals]) -> Totals:
    macs, convolutions, operators = (sum(t[i] for t in totals) for i in range(3))
    return Totals(macs, convolutions, operators, totals[0].params)


def _keys(model: nn.Module, folded: nn.Module, regions: tuple[Region, ...]) -> dict[str, str]:
    """Old names of the state dict to new: kernels of a region to its weight, vectors to its bias where it has one.

    A module held under several names has its tensors under each of them, before and after.
    """
    homes: dict[str, str] = {}
    held = dict(model.named_modules(remove_duplicate=False))
    for region in regions:
        for path in region.paths:
            names = [name for name, module in held.items() if module is held[path]]
            heads = [name for name, module in held.items() if module is held[region.paths[0]]]
            homes.update({name: _nearest(name, heads) for name in names})
    keys: dict[str, str] = {}
    present = folded.state_dict()
    for name, tensor in model.state_dict().items():
        home = next((homes[path] for path in homes if path == "" or name.startswith(f"{path}.")), None)
        if home is None:
            keys[name] = name
        elif tensor.dim() > 0:
            weight, bias = (f"{home}.{leaf}" if home else leaf for leaf in ("weight", "bias"))
            keys[name] = bias if tensor.dim() == 1 and bias in present else weight
    return keys


def _nearest(name: str, heads: list[str]) -> str:
    """The head that shares the longest beginning with `name`."""

    def shared(head: str) -> int:
        pairs = zip(head.split("."), name.split("."), strict=False)
        return len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))

    return max(heads, key=shared)


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan that `Plan.save` wrote. Raises FileProblem when the file is not one."""
    try:
        fields = json.loads(Path(path).read_text())
        if fields["format"] != _FORMAT:
            raise ValueError(f"format {fields['format']!r}")
        refusals, blocking = (tuple(Refusal(**r) for r in fields[key]) for key in ("refusals", "blocking"))
        regions = tuple(Region.from_dict(region) for region in fields["regions"])
        return Plan(regions, refusals, blocking, keys=dict(fields["keys"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
        raise FileProblem(f"this is no saved plan ({reason})", where=str(path), expected=_FORMAT) from error
