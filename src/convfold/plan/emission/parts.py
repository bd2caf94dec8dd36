"""The modules and tensors that folded definitions need, evaluated in float64 and cast once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra.readings.module import layout
from convfold.graph.weights import Weights
from convfold.plan.emission.built import border, convolution, vector
from convfold.plan.emission.change import Change
from convfold.plan.emission.compare import probe
from convfold.plan.emission.recipes import keys_of, names_in
from convfold.plan.emission.sums import Part
from convfold.verify import Certificate

__all__ = ["Builder"]

_LAST = (torch.channels_last, torch.channels_last_3d)


@dataclass
class Builder:
    """Builds parts; `weights` makes a fresh evaluator for each value, None builds them on the meta device."""

    change: Change
    weights: Callable[[Any], Weights] | None

    probes: dict[int, Certificate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.captured, self.after = self.change.captured, self.change.after
        # Not by attribute: to read a parametrised weight in training may change it.
        held = ((module._parameters.get("weight"), module) for module in self.captured.model.modules())
        self._owners = {id(weight): module for weight, module in held if isinstance(weight, Tensor)}

    def originals(self, *parts: Part) -> list[Tensor]:
        """The model's own tensors that `parts` are composed of, the largest first."""
        roots = [part.term.map if part.term is not None else None for part in parts]
        names = [n for key in keys_of(*roots, *(p.shift for p in parts)) for n in names_in(self.captured, key)]
        held = [_tensor(self.captured.model, name) for name in dict.fromkeys(names)]
        return sorted(held, key=lambda tensor: (-tensor.dim(), -tensor.numel()))

    def build(self, parts: list[Part], training: bool) -> list[Any]:
        """The parts of one value: modules for convolutions and border maps, parameters and buffers for the rest."""
        weights = None if self.weights is None else self.weights(self.captured.tensor)
        with torch.no_grad():
            built = [self._build(part, weights, training) for part in parts]
            if weights is not None and parts:
                self.compare(parts[0].value, weights)
        return built

    def compare(self, value: int, weights: Weights) -> None:
        """Compare a value's new definition with the original's, while its kernels are there in float64."""
        if value < self.change.count:
            self.probes[value] = probe(self.change, value, weights)

    def _build(self, part: Part, weights: Weights | None, training: bool) -> Any:
        originals = self.originals(part)
        floating = [t for t in originals if t.is_floating_point()]
        dtype = floating[0].dtype if floating else getattr(torch, self.after.values[part.value].dtype)
        device = torch.device("meta") if weights is None else originals[0].device if originals else None
        if part.role == "index":
            assert part.term is not None
            return torch.tensor(part.term.map.index, device=device)
        trains = any(t.requires_grad for t in floating)
        if part.role == "conv":
            return self._conv(part, weights, originals, dtype, device, trains).train(training)
        if part.role == "border":
            return border(self.after, part, weights).to(device=device, dtype=dtype).train(training)
        tensor = vector(self.after, part, weights).to(device=device, dtype=dtype)
        return nn.Parameter(tensor, trains)

    def _conv(
        self,
        part: Part,
        weights: Weights | None,
        originals: list[Tensor],
        dtype: torch.dtype,
        device: torch.device | None,
        trains: bool,
    ) -> nn.Module:
        module: Any = convolution(part, weights, dtype, device, self._like(originals))
        for last in {layout(t) for t in originals if t.dim() == part.dims + 2} & set(_LAST):
            if weights is not None:
                module.weight = nn.Parameter(module.weight.contiguous(memory_format=last))
        return module.requires_grad_(trains)  # type: ignore[no-any-return]

    def _like(self, originals: list[Tensor]) -> nn.Module | None:
        """The module whose kernel is the largest: its spelling of the window is kept."""
        return self._owners.get(id(originals[0])) if originals else None


def _tensor(model: nn.Module, name: str) -> Tensor:
    path, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(path), leaf)  # type: ignore[no-any-return]
