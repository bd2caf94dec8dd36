"""Decided by modules alone: blocks, and convolutions with the batch normalisations behind them.

This is what can be seen without example inputs, or where a model cannot be captured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from torch import nn

from convfold.algebra import kernel
from convfold.algebra.readings.tensors import tensors, to_meta
from convfold.cost import CostReport, Totals, counted
from convfold.errors import Refusal
from convfold.graph import Flow, flow_of
from convfold.plan.emit import emit, shadow
from convfold.plan.regions import Region, expression, find_regions
from convfold.verify import Certificate

__all__ = ["ByModules", "by_modules", "totals"]


@dataclass
class ByModules:
    """Regions of whole modules, each replaced by one."""

    model: nn.Module
    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    blocking: tuple[Refusal, ...]

    @property
    def limits(self) -> tuple[str, ...]:
        """The sizes that the plan holds for: no size was looked at."""
        return ()

    def emit(self) -> tuple[nn.Module, dict[tuple[str, ...], Certificate], list[Refusal]]:
        """The folded copy, a certificate for each region, and a refusal for each that was rolled back."""
        return emit(self.model, self.regions)

    def shadow(self) -> nn.Module:
        """The structure of the folded copy, on the meta device."""
        return shadow(self.model, self.regions)

    def made(self) -> frozenset[str]:
        """Where modules of the fold stand."""
        return frozenset(region.paths[0] for region in self.regions)

    def keys(self) -> dict[str, str]:
        """Old names of the state dict to new."""
        return _keys(self.model, self.shadow(), self.regions)


def by_modules(model: nn.Module, example_inputs: object) -> ByModules:
    """Find the regions, and keep those that do not get dearer."""
    flow = flow_of(model, example_inputs)
    found = find_regions(model, flow)
    regions, dearer = _gate(model, found.regions, flow, seen=example_inputs is not None)
    return ByModules(model, regions, (*found.refusals, *dearer), found.blocking)


def totals(report: CostReport) -> Totals:
    """The four figures of a report that a plan compares."""
    return Totals(report.macs, report.convolutions, report.operators, report.params)


def _gate(
    model: nn.Module, regions: tuple[Region, ...], flow: Flow, *, seen: bool
) -> tuple[tuple[Region, ...], list[Refusal]]:
    """Cost each region, and refuse those that would not get cheaper; the rest keep theirs where inputs were `seen`."""
    kept: list[Region] = []
    refusals: list[Refusal] = []
    for region in regions:
        was, will = _region_costs(model, region, flow)
        if any(b > a for a, b in zip(was[:3], will[:3], strict=True)):
            figures = f"{was.macs:,} -> {will.macs:,} MACs, {was.operators} -> {will.operators} operators"
            reason = f"it would not be cheaper: {figures}"
            refusals.append(Refusal(region.types[0], reason, region.paths[0], "block.fold() folds it all the same."))
            continue
        kept.append(replace(region, before=was, after=will) if seen else region)
    return tuple(kept), refusals


def _region_costs(model: nn.Module, region: Region, flow: Flow) -> tuple[Totals, Totals]:
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
        (counted(head, like.new_empty(shape, device="meta")), counted(plain, like.new_empty(shape, device="meta")))
        for shape in shapes
    ]
    was = _sum([totals(a) for a, _ in pairs])
    will = _sum([totals(b) for _, b in pairs])
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
