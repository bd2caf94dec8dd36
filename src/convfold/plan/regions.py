"""Regions: modules that together are one convolution, found by data flow, and why others are not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import rshift
from typing import Any

import torch
from torch import nn

from convfold.algebra import Conv, ConvTranspose, Op, defines_op, has_hooks, has_op, kernel, op, text
from convfold.algebra.readings.module import as_module, check_foldable
from convfold.algebra.readings.tensors import to_meta
from convfold.cost import Totals
from convfold.errors import NotFoldable, Refusal
from convfold.graph import Flow
from convfold.graph.observe import module_paths
from convfold.verify import Certificate

__all__ = ["Found", "Region", "expression", "find_regions", "rolled_back"]


@dataclass(frozen=True)
class Region:
    """Modules, in the order of the data flow, that fold to one; the first takes the result, the rest become Identity.

    `before` and `after` are (MACs, convolutions, operators, parameters) over all calls, None when no shapes
    were seen.
    """

    paths: tuple[str, ...]
    types: tuple[str, ...]
    equation: str
    result: str
    before: Totals | None = None
    after: Totals | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        before, after = (None if t is None else t._asdict() for t in (self.before, self.after))
        fields = {"paths": list(self.paths), "types": list(self.types), "before": before, "after": after}
        return {**fields, "equation": self.equation, "result": self.result}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Region:
        """The inverse of `to_dict`."""
        before, after = (None if t is None else Totals(**t) for t in (fields["before"], fields["after"]))
        paths, types = tuple(fields["paths"]), tuple(fields["types"])
        return cls(paths, types, fields["equation"], fields["result"], before, after)


def rolled_back(region: Region, certificate: Certificate, hint: str = "") -> Refusal:
    """The refusal that a region leaves whose result was not equal."""
    at_fault = "Either a forward does not compute what its op() says, or convfold is at fault: please report it."
    return Refusal(region.types[0], certificate.complaint, region.paths[0], hint or at_fault)


@dataclass(frozen=True)
class Found:
    """Regions, refusals, and those refusals that make `fold` raise instead of leaving the place alone."""

    regions: tuple[Region, ...]
    refusals: tuple[Refusal, ...]
    blocking: tuple[Refusal, ...]


def expression(modules: list[nn.Module]) -> Op:
    """The chain that `modules` compute one after another."""
    parts: list[Op] = [op(modules[0])]
    for module in modules[1:]:
        parts.append(op(module, channels=parts[-1].out_channels, dims=parts[-1].dims))
    return reduce(rshift, parts)


def _units(model: nn.Module) -> dict[str, nn.Module]:
    """The outermost modules that have an equation, by path; a Sequential is looked into."""
    units: dict[str, nn.Module] = {}
    for module, path in module_paths(model).items():
        inside = any(path.startswith(f"{outer}.") or outer == "" for outer in units)
        if not inside and has_op(module) and not isinstance(module, nn.Sequential):
            units[path] = module
    return units


def _read(module: nn.Module) -> Op | None:
    try:
        return op(module)
    except NotFoldable:
        return None


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def _ties(model: nn.Module) -> dict[int, list[nn.Module]]:
    """The modules that hold each parameter themselves."""
    holders: dict[int, list[nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), []).append(module)
    return holders


def _trained_tie(modules: list[nn.Module], ties: dict[int, list[nn.Module]]) -> bool:
    inside = {inner for module in modules for inner in module.modules()}
    return any(module.training for module in modules) and any(
        parameter.requires_grad and any(holder not in inside for holder in ties[id(parameter)])
        for module in modules
        for parameter in module.parameters()
    )


def _follow(path: str, units: dict[str, nn.Module], flow: Flow) -> tuple[str, ...]:
    """The unit at `path` and the batch normalisations that alone read it, and each other."""
    chain = [path]
    while (reader := flow.reader(chain[-1])) is not None and reader in units and _is_norm(units[reader]):
        if reader in chain:
            break
        chain.append(reader)
    return tuple(chain)


def _tokens(head: Op, path: str, flow: Flow) -> bool:
    """Whether the output's channels may not be the axis that a batch normalisation after it normalises.

    That is the last axis of a Linear, and of a convolution without a batch the first. Only a Linear takes any
    number of axes, so only there an input that was not seen is a doubt.
    """
    shapes = [call.shape for call in flow.of(path)]
    if any(shape is None for shape in shapes):
        return head.dims == 0
    return any(shape is not None and len(shape) != head.dims + 2 for shape in shapes)


def find_regions(model: nn.Module, flow: Flow) -> Found:
    """Every block, and every convolution, transposed convolution or Linear with the batch norms that follow it.

    Legality and the resulting window are found on meta tensors, from shapes alone.
    """
    units, ties = _units(model), _ties(model)
    regions: list[Region] = []
    refusals: list[Refusal] = []
    blocking: list[Refusal] = []
    taken: set[str] = set()
    for path, module in units.items():
        if hasattr(module, "parametrizations") and module.training:
            # Reading such a weight may change it: spectral_norm then takes a step of its power iteration.
            reason = "its weight is parametrised and in training mode"
            refusals.append(Refusal(type(module).__name__, reason, path, "Call eval() on it first."))
            taken.add(path)
            continue
        head = _read(module)
        if head is None or _is_norm(module):
            continue
        paths = _follow(path, units, flow)
        if len(paths) > 1 and _tokens(head, path, flow):
            taken.update(paths[1:])
            refusals.append(_axis_unknown(path, paths[1], units[paths[1]], flow))
            paths = paths[:1]
        plain = isinstance(head, (Conv, ConvTranspose)) and not defines_op(module)
        if plain and len(paths) == 1:
            continue
        taken.update(paths)
        refusal, stops = _examine(paths, units, ties, flow)
        if refusal is not None:
            refusals.append(refusal)
            blocking += [refusal] * stops
            continue
        whole = expression([units[p] for p in paths])
        result = repr(as_module(kernel(to_meta(whole)), module))
        types = tuple(type(units[p]).__name__ for p in paths)
        regions.append(Region(paths, types, text(whole), result))
    for path, module in units.items():
        if _is_norm(module) and path not in taken:
            refusals.append(_alone(path, module, flow))
    for module, path in module_paths(model).items():
        if _is_norm(module) and not has_op(module):
            reason = "its class computes more than batch normalisation, or in another way"
            refusals.append(Refusal(type(module).__name__, reason, path))
    return Found(tuple(regions), tuple(refusals), tuple(blocking))


def _examine(
    paths: tuple[str, ...], units: dict[str, nn.Module], ties: dict[int, list[nn.Module]], flow: Flow
) -> tuple[Refusal | None, bool]:
    """Why these modules do not fold, and whether that makes `fold` raise."""
    modules = [units[path] for path in paths]
    for path, module in zip(paths, modules, strict=True):
        if any(has_hooks(inner) for inner in module.modules()):
            reason = "it has a hook, which may change or watch what it computes"
            return Refusal(type(module).__name__, reason, path, "Remove the hook."), False
        if path in flow.exposed:
            reason = "its weights are read outside of its own call too, so they may not change"
            return Refusal(type(module).__name__, reason, path), False
    if _trained_tie(modules, ties):
        reason = "its weight is shared with another module and still trained"
        return Refusal(
            type(modules[0]).__name__, reason, paths[0], "Call eval() first; the fold then clones it."
        ), False
    try:
        whole = expression(modules)
    except NotFoldable as error:
        return error.refusal.at(paths[0]), False
    try:
        check_foldable(whole)
    except NotFoldable as error:
        return error.refusal.at(_guilty(error, paths, modules)), True
    try:
        as_module(kernel(to_meta(whole)), modules[0])
    except NotFoldable as error:
        return error.refusal.at(paths[0]), False
    return None, False


def _guilty(error: NotFoldable, paths: tuple[str, ...], modules: list[nn.Module]) -> str:
    """The path of the batch normalisation in training mode, or of the module with values that are not finite."""
    for path, module in zip(paths, modules, strict=True):
        inner = [(name, m) for name, m in module.named_modules() if _is_norm(m) and m.training]
        if inner and "training mode" in error.refusal.reason:
            return ".".join(part for part in (path, inner[0][0]) if part)
        if "finite" in error.refusal.reason and any(
            not bool(torch.isfinite(t).all()) for t in (*module.parameters(), *module.buffers())
        ):
            return path
    return paths[0]


def _axis_unknown(path: str, place: str, norm: nn.Module, flow: Flow) -> Refusal:
    seen = [call.shape for call in flow.of(path) if call.shape is not None]
    reason = (
        f"it normalises axis 1 of what '{path}' gives for an input of shape {seen[0]}, which is not its channel axis"
        if seen
        else "the number of axes of its input is not known"
    )
    return Refusal(type(norm).__name__, reason, place, "" if seen else "Pass example_inputs.")


def _alone(path: str, module: nn.Module, flow: Flow) -> Refusal:
    """Why a batch normalisation stays."""
    kind = type(module).__name__
    calls = flow.of(path)
    if not calls:
        return Refusal(kind, f"{flow.how} did not reach it", path, "Pass example_inputs that use it.")
    makers = {c.path for c in flow.calls for call in calls if c.output in call.inputs}
    if not makers:
        return Refusal(kind, "its input does not come straight from a convolution", path)
    maker = sorted(makers)[0]
    users = {u for c in flow.of(maker) for u in flow.uses.get(c.output, [])}
    if len(users) > 1 or len(makers) > 1:
        return Refusal(kind, f"'{maker}' is called or read elsewhere too, so its weights may not change", path)
    return Refusal(kind, f"'{maker}' before it does not fold", path)
