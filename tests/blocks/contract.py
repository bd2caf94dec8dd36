"""The contract of every block: value, modes, gradients and fold of one random configuration."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import convfold
from blocks.cases import Case, plain
from blocks.plain import border

__all__ = ["ATTRIBUTES", "Operators", "check", "gradients", "operators", "same_in_every_form", "same_values"]

CEILING, GRADIENT_CEILING = 1e-12, 1e-10
Oracle = Callable[[Any, Case, Tensor], Tensor]
ATTRIBUTES = (
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "groups",
    "padding_mode",
    "output_padding",
    "transposed",
    "_reversed_padding_repeated_twice",
    "training",
)


class Operators(TorchDispatchMode):
    """The operators that run, views and copies included, and the batch size of each convolution's input."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.convolved: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.names.append(name)
        if name == "convolution":
            self.convolved.append(args[0].shape[0])
        return func(*args, **(kwargs or {}))


def operators(module: nn.Module, x: Tensor) -> Operators:
    with torch.no_grad(), Operators() as seen:
        module(x)
    return seen


def same_values(
    a: Tensor, b: Tensor, mask: Tensor | None = None, ceiling: float = CEILING, least: float = 0.0
) -> float:
    """Asserts that a = b element by element, relative to the largest |b| or `least`; border and interior apart."""
    assert a.shape == b.shape, f"shape {tuple(a.shape)}, expected {tuple(b.shape)}"
    scale = b.abs().max().clamp_min(max(least, 1e-30))
    error = (a - b).abs() / scale
    assert bool(torch.isfinite(error).all())
    for name, part in (("border", mask), ("interior", None if mask is None else ~mask)):
        if part is not None and bool(part.any()):
            worst = error[..., part].max().item()
            assert worst <= ceiling, f"{name} differs by {worst:.2e}"
    worst = error.max().item()
    assert worst <= ceiling, f"differs by {worst:.2e}"
    return worst


def gradients(module: nn.Module, x: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Gradients of a weighted sum of the outputs in every parameter and in the input."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    (module(x) * weights).sum().backward()
    assert x.grad is not None
    found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    assert set(found) == {name for name, _ in module.named_parameters()}, "a parameter has no gradient"
    return {**found, "input": x.grad}


def check(case: Case, oracle: Oracle) -> float:
    """All that must hold for any configuration; returns the worst relative error of the folded module's output."""
    module, x = case.build(), case.input()
    module.mode = "feature"
    with torch.no_grad():
        truth = oracle(module, case, x)
        value = module(x)
    mask = border(truth, case.whole) if case.dims else None
    same_values(value, truth, mask)

    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(3), dtype=value.dtype)
    wide = gradients(module, x, weights)
    module.mode = "kernel"
    with torch.no_grad():
        same_values(module(x), truth, mask)
    composed = gradients(module, x, weights)
    # A gradient may cancel to zero (a mask whose taps sum to zero): its roundings are measured against the others.
    least = 1e-3 * max(gradient.abs().max().item() for gradient in wide.values())
    for name, gradient in wide.items():
        same_values(composed[name], gradient, ceiling=GRADIENT_CEILING, least=least)

    before = copy.deepcopy(module.state_dict())
    folded = module.fold()
    _attributes(folded, case)
    with torch.no_grad():
        error = same_values(folded(x), truth, mask)
    seen = operators(folded, x).names
    assert seen == operators(plain(case, folded.bias is not None), x).names
    assert seen.count("convolution") == (1 if case.dims else 0)
    _twice(folded)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items()), "fold changed the block"
    return error


def same_in_every_form(module: Any, x: Tensor, ceiling: float = 1e-12) -> Any:
    """Feature mode, kernel mode and fold agree in value and gradient; returns the folded convolution."""
    module.mode = "feature"
    with torch.no_grad():
        value = module(x)
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(3), dtype=value.dtype)
    wide = gradients(module, x, weights)
    module.mode = "kernel"
    with torch.no_grad():
        same_values(module(x), value, ceiling=ceiling)
    composed = gradients(module, x, weights)
    least = 1e-3 * max(g.abs().max().item() for g in wide.values())
    for name, gradient in wide.items():
        same_values(composed[name], gradient, ceiling=1e-9, least=least)
    folded = module.fold()
    ring = torch.ones(value.shape[2:], dtype=torch.bool)
    ring[2:-2, 2:-2] = False
    same_values(folded(x), value, ring, ceiling)
    assert type(folded) is nn.Conv2d
    return folded


def _attributes(folded: Any, case: Case) -> None:
    reference = plain(case, folded.bias is not None).eval()
    assert type(folded) is type(reference)
    if case.dims:
        for name in ATTRIBUTES:
            assert getattr(folded, name) == getattr(reference, name), name
    assert repr(folded) == repr(reference)
    for name, parameter in reference.named_parameters():
        got = folded.get_parameter(name)
        assert (got.shape, got.dtype, got.device) == (parameter.shape, parameter.dtype, parameter.device)
        assert got.requires_grad
        assert got.is_contiguous()
    assert [name for name, _ in folded.named_parameters()] == [name for name, _ in reference.named_parameters()]
    assert not list(folded.buffers())


def _twice(folded: nn.Module) -> None:
    again = convfold.fold(folded)
    assert type(again) is type(folded)
    assert repr(again) == repr(folded)
    for name, tensor in folded.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
