"""The modules and tensors that folded definitions need, evaluated in float64 and cast once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from convfold.algebra import Conv, ConvTranspose
from convfold.algebra.readings.module import as_module, layout
from convfold.graph.maps import Map
from convfold.graph.weights import Weights
from convfold.plan.emission.border_bias import BorderBias
from convfold.plan.emission.borders import borders_of, respond
from convfold.plan.emission.change import Change
from convfold.plan.emission.compare import probe
from convfold.plan.emission.recipes import keys_of, names_in
from convfold.plan.emission.sums import Part, pads_apart, widened
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
            return self._border(part, weights).to(device=device, dtype=dtype).train(training)
        tensor = self._vector(part, weights).to(device=device, dtype=dtype)
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
        assert part.term is not None
        m = part.term.map
        window = widened(m, part.dims)
        shape = _hollow(m, window, part, dtype)
        if pads_apart(m):
            shape = replace(shape, window=tuple(axis.shifted(-axis.lo, -axis.hi) for axis in window))
        mode = "zeros"
        if part.padding is not None:
            assert isinstance(shape, Conv)
            mode, pads = part.padding.mode, zip(window, part.padding.pads, strict=True)
            shape = replace(shape, window=tuple(axis.shifted(p, p) for axis, p in pads), padding_mode=mode)
        # Built without memory, so that no time goes into numbers that are replaced at once.
        like = self._like(originals)
        # A mode of padding that pads nothing is executed all the same.
        module: Any = as_module(shape, None if getattr(like, "padding_mode", "zeros") != mode else like)
        if weights is not None:
            kernel = weights.conv(m, part.dims, m.cols).weight.to(device=device, dtype=dtype)
            for last in {layout(t) for t in originals if t.dim() == part.dims + 2} & set(_LAST):
                kernel = kernel.contiguous(memory_format=last)
            module.weight = nn.Parameter(kernel)
            if part.shift is not None:
                module.bias = nn.Parameter(weights.vector(part.shift, m.rows).to(device=device, dtype=dtype))
        return module.requires_grad_(trains)  # type: ignore[no-any-return]

    def _like(self, originals: list[Tensor]) -> nn.Module | None:
        """The module whose kernel is the largest: its spelling of the window is kept."""
        return self._owners.get(id(originals[0])) if originals else None

    def _vector(self, part: Part, weights: Weights | None) -> Tensor:
        """A scale or a shift, shaped so that it lies on its axis."""
        shape = self.after.values[part.value].shape
        m = part.term.map if part.term is not None else None
        axis = part.axis if m is None or m.kind != "scalar" else None
        count = 1 if axis is None else shape[axis]
        behind = 0 if axis is None else len(shape) - axis - 1
        if weights is None:
            found = torch.empty(count, device="meta")
        elif m is None:
            assert part.shift is not None
            found = weights.vector(part.shift, count)
        else:
            op: Any = weights.op(m, 0, count)
            found = op.scale[:1] if axis is None else op.scale
        return found.reshape(count, *(1,) * behind).clone()

    def _border(self, part: Part, weights: Weights | None) -> BorderBias:
        assert part.shift is not None
        assert part.axis is not None
        channels, *planned = self.after.values[part.value].shape[part.axis :]
        node = self.after.nodes[part.value]
        source = self.after.values[node.inputs[0]].shape[part.axis + 1 :]
        borders = borders_of(part.shift, len(planned))

        def response(size: tuple[int, ...]) -> Tensor | None:
            if weights is None:
                return torch.empty(channels, *size, device="meta")
            found = respond(part.shift, size, weights)
            return None if found is None else found.expand(channels, *size)

        if borders is None and weights is not None:
            whole = weights.vector(part.shift, channels)
            return BorderBias(tuple(planned), lambda size: whole.expand(channels, *size), None, source)
        return BorderBias(tuple(planned), response, borders, source)


def _tensor(model: nn.Module, name: str) -> Tensor:
    path, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(path), leaf)  # type: ignore[no-any-return]


def _hollow(m: Map, window: Any, part: Part, dtype: torch.dtype) -> Conv | ConvTranspose:
    taps = tuple(axis.kernel for axis in window)
    lead = (m.cols, m.rows // m.groups) if m.kind == "transposed" else (m.rows, m.cols // m.groups)
    weight = torch.empty(*lead, *taps, device="meta", dtype=dtype)
    bias = None if part.shift is None else torch.empty(m.rows, device="meta", dtype=dtype)
    return (ConvTranspose if m.kind == "transposed" else Conv)(weight, bias, window, m.groups)
