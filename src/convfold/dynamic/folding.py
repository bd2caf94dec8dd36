"""What of a dynamic layer is static: experts that fold, a normalisation after it, and routing that never changes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, Conv, Norm
from convfold.algebra.laws.special import norm_as_affine
from convfold.algebra.protocol import op as read
from convfold.algebra.readings.kernel import kernel
from convfold.algebra.readings.module import as_module, check_foldable
from convfold.algebra.readings.tensors import frozen
from convfold.algebra.readings.twin import twin
from convfold.dynamic.experts import combined
from convfold.dynamic.mixture import Mixture, mixed_bias, mixed_kernels
from convfold.dynamic.routing import Router

__all__ = ["absorbed", "is_simple", "simplified"]


def is_simple(layer: Any) -> bool:
    """Whether `simplified` has nothing to do: plain experts, and routing that depends on the input."""
    return layer.experts is None and _constant(layer) is None


def simplified(layer: Any) -> nn.Module:
    """See `DynamicLayer.simplified`."""
    if is_simple(layer):
        return cast(nn.Module, layer)
    exact, dtype = _exact(layer)
    return _finished(layer, exact, dtype)


def absorbed(layer: Any, norm: nn.Module) -> nn.Module:
    """See `DynamicLayer.absorbed`."""
    check_foldable(Norm(norm, layer.dims))
    after = norm_as_affine(Norm(norm, layer.dims), torch.float64)
    exact, dtype = _exact(layer)
    return _finished(layer, _scaled(exact, after, sums_to_one=_sums_to_one(layer)), dtype)


def _sums_to_one(layer: Any) -> bool:
    return isinstance(layer.router, Router) and layer.router.sums_to_one


def _constant(layer: Any) -> Tensor | None:
    return layer.router.constant() if isinstance(layer.router, Router) else None


def _exact(layer: Any) -> tuple[Mixture, torch.dtype]:
    """The experts in float64, with what block experts add up themselves done in that precision too."""
    if layer.experts is None:
        mixture = layer.mixture()
        double = {
            name: None if value is None else value.detach().double()
            for name, value in (("weight", mixture.weight), ("bias", mixture.bias), ("static", mixture.static))
        }
        return replace(mixture, **double), mixture.weight.dtype
    convs = []
    with torch.no_grad():
        for expert in layer.experts:
            check_foldable(read(expert))
            convs.append(kernel(frozen(read(twin(expert).to(torch.float64)), torch.float64)))
    static = None if layer.static_bias is None else layer.static_bias.detach().double()
    return combined(convs, static), next(layer.experts.parameters()).dtype


def _scaled(mixture: Mixture, after: Affine, *, sums_to_one: bool) -> Mixture:
    """``s * y + t``: kernels, biases and the static bias times s; t into every bias, or into the static one."""
    scale, shift = after.scale, after.shift
    weight, bias, static = mixture.weight, mixture.bias, mixture.static
    if scale is not None:
        weight = weight * scale.reshape(1, -1, *(1,) * (weight.dim() - 2))
        bias = None if bias is None else bias * scale
        static = None if static is None else static * scale
    if shift is not None and sums_to_one:
        bias = shift.expand(mixture.experts, -1).clone() if bias is None else bias + shift
    elif shift is not None:
        static = shift if static is None else static + shift
    return replace(mixture, weight=weight, bias=bias, static=static)


def _finished(layer: Any, mixture: Mixture, dtype: torch.dtype) -> nn.Module:
    """The mixture as a module in the place of `layer`: its own class, or a convolution where routing is constant."""
    learns = any(parameter.requires_grad for parameter in layer.parameters())
    constant = _constant(layer)
    result: nn.Module
    if constant is None:
        result = _rebuilt(layer, mixture)
    else:
        routing = constant.to(mixture.weight)[None]
        bias = mixed_bias(mixture, routing)
        bias = None if bias is None else bias.reshape(-1)
        weight = mixed_kernels(mixture, routing)[0]
        result = as_module(Conv(weight, bias, mixture.window, mixture.groups, mixture.padding_mode), layer)
    for parameter in result.parameters(recurse=False):
        parameter.data = parameter.data.to(dtype)
        parameter.requires_grad_(learns)
    return result.train(layer.training)


def _rebuilt(layer: Any, mixture: Mixture) -> nn.Module:
    """A copy of the layer with these experts, written as plain kernels; the router is kept as it is."""
    memo = {id(layer.experts): None} if layer.experts is not None else {}
    own = {id(p): p for p in (layer.weight, layer.bias, layer.static_bias) if p is not None}
    result = copy.deepcopy(layer, {**memo, **own})
    result.experts = None
    result.weight = nn.Parameter(mixture.weight)
    result.bias = None if mixture.bias is None else nn.Parameter(mixture.bias)
    result.static_bias = None if mixture.static is None else nn.Parameter(mixture.static)
    return cast(nn.Module, result)
