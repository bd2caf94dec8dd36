"""Decided first, where a model mixes kernels per sample: what of each mixture is static.

No law of the graph reaches a batch normalisation behind a kernel that is computed: but the layer itself knows how it
is folded (see `convfold.algebra.is_mixed`). What it becomes takes its place; everything else is planned after that.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from convfold.algebra import has_hooks, hollow, is_mixed, twin
from convfold.cost import Totals, counted
from convfold.errors import ConvfoldWarning, InvalidArgument, NotFoldable, Refusal
from convfold.graph import Flow, flow_of
from convfold.graph.observe import module_paths
from convfold.plan.by_modules import totals
from convfold.plan.decision import Decision
from convfold.plan.emit import nothing_like, replace_module
from convfold.plan.regions import Region, rolled_back
from convfold.verify import Certificate, verify

__all__ = ["ByMixtures", "by_mixtures"]


@dataclass
class ByMixtures:
    """The mixtures of a model that have something static, and what was decided about the model without that."""

    model: nn.Module
    first: tuple[Region, ...]
    inner: Decision
    refused: tuple[Refusal, ...]
    stopping: tuple[Refusal, ...]
    shapes: dict[tuple[str, ...], tuple[int, ...]]

    @property
    def regions(self) -> tuple[Region, ...]:
        return (*self.inner.regions, *self.first)

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        return (*self.refused, *self.inner.refusals)

    @property
    def limits(self) -> tuple[str, ...]:
        return self.inner.limits

    @property
    def blocking(self) -> tuple[Refusal, ...]:
        return (*self.stopping, *self.inner.blocking)

    def emit(self) -> tuple[nn.Module, dict[tuple[str, ...], Certificate], list[Refusal]]:
        """The folded copy, a certificate for each region, and a refusal for each that was rolled back.

        What was planned after a mixture stands on it, so one that is not equal undoes all.
        """
        certificates = {
            region.paths: _certificate(self.model, region, self.shapes[region.paths]) for region in self.first
        }
        wrong = [region for region in self.first if not certificates[region.paths]]
        if wrong:
            hint = "Please report it: what the layer says of itself is not so. Nothing of this model was folded."
            found = [rolled_back(region, certificates[region.paths], hint) for region in wrong]
            for refusal in found:
                warnings.warn(ConvfoldWarning(str(refusal)), stacklevel=3)
            return twin(self.model), certificates, found
        module, inside, undone = self.inner.emit()
        return module, inside | certificates, undone

    def shadow(self) -> nn.Module:
        """The structure of the folded copy, on the meta device."""
        return self.inner.shadow()

    def made(self) -> frozenset[str]:
        """Where modules of the fold stand."""
        return self.inner.made() | {path for region in self.first for path in region.paths}

    def keys(self) -> dict[str, str]:
        """Old names of the state dict to new."""
        then = self.inner.keys()
        between = self.inner.model.state_dict()
        first = {name: _moved(name, self.first, between) for name in self.model.state_dict()}
        return {old: then[name] for old, name in first.items() if name in then}

    def drawn(self) -> dict[str, Any]:
        """The graphs of what was planned after; regions of mixtures are numbered behind the others."""
        draw = getattr(self.inner, "drawn", None)
        if draw is None:
            raise InvalidArgument("this plan has seen no graph", hint="Make it of a model with example_inputs.")
        found: dict[str, Any] = draw()
        start = max((number for number, _ in found["laws"]), default=-1) + 1
        own = [(start + index, (region.equation,)) for index, region in enumerate(self.first)]
        return {**found, "laws": [*found["laws"], *own]}


def by_mixtures(model: nn.Module, inputs: object, decide: Callable[[nn.Module], Decision]) -> ByMixtures | None:
    """Find what is static in the mixtures of `model`, and let `decide` plan the rest.

    None where there is nothing to say of them: nothing is static, and nothing is refused.

    `inputs` are example inputs or None.
    """
    if not any(is_mixed(module) for module in model.modules()):
        return None
    flow = flow_of(model, inputs)
    found: list[_Found] = []
    refused: list[Refusal] = []
    stopping: list[Refusal] = []
    for module, path in module_paths(model).items():
        if not is_mixed(module):
            continue
        static, refusal, stops = _static(model, path, module, flow)
        if refusal is not None:
            refused.append(refusal)
            stopping += [refusal] * stops
        if static is not None:
            found.append(static)
    if not (found or refused):
        return None
    regions, shapes = [], {}
    for static in found:
        region, shapes[static.paths] = _region(model, static, flow, seen=inputs is not None)
        regions.append(region)
    rest = decide(_carried_out(model, found))
    return ByMixtures(model, tuple(regions), rest, tuple(refused), tuple(stopping), shapes)


@dataclass(frozen=True, eq=False)
class _Found:
    """A mixture, with the normalisation behind it where there is one, and what both become."""

    paths: tuple[str, ...]
    result: nn.Module


def _static(model: nn.Module, path: str, module: Any, flow: Flow) -> tuple[_Found | None, Refusal | None, bool]:
    """What is static in the mixture, None where nothing is; why something does not fold; and whether that stops."""
    kind = type(module).__name__
    if any(has_hooks(inner) for inner in module.modules()):
        return None, Refusal(kind, "it has a hook, which may change or watch what it computes", path), False
    reader = flow.reader(path)
    norm = None if reader is None else model.get_submodule(reader)
    if reader is None or not isinstance(norm, nn.modules.batchnorm._BatchNorm):
        return _simpler(path, module), None, False
    if has_hooks(norm) or reader in flow.exposed:
        why = Refusal(type(norm).__name__, "it is watched, or its weights are read elsewhere", reader)
        return _simpler(path, module), why, False
    try:
        return _Found((path, reader), module.absorbed(norm)), None, False
    except NotFoldable as error:
        return None, error.refusal.at(reader), True


def _simpler(path: str, module: Any) -> _Found | None:
    try:
        result = module.simplified()
    except NotFoldable:
        return None
    return None if result is module else _Found((path,), result)


def _result(model: nn.Module, paths: tuple[str, ...]) -> nn.Module:
    module: Any = model.get_submodule(paths[0])
    if len(paths) == 1:
        return cast(nn.Module, module.simplified())
    return cast(nn.Module, module.absorbed(model.get_submodule(paths[1])))


def _carried_out(model: nn.Module, found: list[_Found]) -> nn.Module:
    copied = twin(model)
    for static in found:
        copied = replace_module(copied, static.paths[0], static.result)
        for path in static.paths[1:]:
            copied = replace_module(copied, path, nothing_like(copied.get_submodule(path)))
    return copied


class _Fed(nn.Module):
    """A mixture whose block shares a router, and what follows it, with coefficients given: it cannot run without."""

    def __init__(self, layer: nn.Module, rest: nn.Module) -> None:
        super().__init__()
        self.layer, self.rest = layer, rest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        experts: int = self.layer.num_experts  # type: ignore[assignment]
        routing = torch.linspace(0.1, 0.9, len(x) * experts, dtype=x.dtype, device=x.device).reshape(len(x), experts)
        return cast(torch.Tensor, self.rest(self.layer(x, routing=routing)))


def _alone(layer: nn.Module, rest: nn.Module | None = None) -> nn.Module:
    """The module, and what follows it, as something that takes one input."""
    if getattr(layer, "router", layer) is None:
        return _Fed(layer, nn.Identity() if rest is None else rest)
    return layer if rest is None else nn.Sequential(layer, rest)


def _pair(model: nn.Module, paths: tuple[str, ...]) -> nn.Module:
    return _alone(*(model.get_submodule(path) for path in paths))


def _region(model: nn.Module, found: _Found, flow: Flow, *, seen: bool) -> tuple[Region, tuple[int, ...]]:
    """The region, and the shape of an input that its head has seen, or would take."""
    paths, result = found.paths, found.result
    head: Any = model.get_submodule(paths[0])
    shape = next((call.shape for call in flow.of(paths[0]) if call.shape is not None), None)
    before = after = None
    if shape is None:
        shape = (2, head.in_channels, *(axis.span + 4 for axis in head.window))
    elif seen:
        like = torch.empty(shape, device="meta", dtype=next(head.parameters()).dtype)
        before, after = (_totals(module, like) for module in (_pair(model, paths), _alone(result)))
    types = tuple(type(model.get_submodule(path)).__name__ for path in paths)
    law = "the mixture takes the normalisation into its experts" if len(paths) > 1 else "what of the mixture is static"
    return Region(paths, types, law, repr(result).splitlines()[0].rstrip("("), before, after), shape


def _totals(module: nn.Module, like: torch.Tensor) -> Totals:
    return totals(counted(hollow(module).eval(), like))


def _certificate(model: nn.Module, region: Region, shape: tuple[int, ...]) -> Certificate:
    """The comparison in float64, before the cast, on several samples of that shape."""
    wide = nn.Module()
    for index, path in enumerate(region.paths):
        wide.add_module(str(index), twin(model.get_submodule(path)).eval().to(torch.float64))
    names = tuple(str(index) for index in range(len(region.paths)))
    example = torch.randn(3, *shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return verify(_pair(wide, names), _alone(_result(wide, names)), example)


def _moved(name: str, regions: tuple[Region, ...], between: dict[str, Any]) -> str:
    """Where a tensor of a region's modules goes: its own name where that stays, else the kernels or a bias."""
    for region in regions:
        for path in region.paths:
            if path and not name.startswith(f"{path}."):
                continue
            if path == region.paths[0] and name in between:
                return name
            home = f"{region.paths[0]}." if region.paths[0] else ""
            vector = name.rpartition(".")[2] in ("bias", "running_mean", "running_var")
            wanted = ("bias", "static_bias", "weight") if vector else ("weight",)
            return next((home + leaf for leaf in wanted if home + leaf in between), home + "weight")
    return name
