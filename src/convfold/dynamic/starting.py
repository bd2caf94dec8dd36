"""The exact start: a dynamic layer that computes a given static convolution, and can still leave it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from convfold.dynamic.routing import Router
from convfold.errors import InvalidArgument

__all__ = ["centred_noise", "start"]


def centred_noise(like: Tensor, experts: int, scale: float) -> Tensor:
    """eps (K, *like.shape) of deviation ``scale * std(like)`` that adds to zero over the experts."""
    if experts == 1 or like.numel() < 2:
        return like.new_zeros(experts, *like.shape)
    noise = torch.randn(experts, *like.shape, dtype=like.dtype, device=like.device)
    noise = noise - noise.mean(0)
    # Taking the mean away has cost a share of 1/K of the variance.
    return noise * (scale * like.std() * (experts / (experts - 1)) ** 0.5)


def start(layer: Any, weight: Tensor, bias: Tensor | None, noise: float) -> None:
    """See `DynamicLayer.start`."""
    where = type(layer).__name__
    if layer.weight is None:
        raise InvalidArgument(
            "experts that are blocks start one by one",
            where=where,
            expected="experts without conv=",
            hint="Call start() of each module in layer.experts.",
        )
    if not isinstance(layer.router, Router):
        raise InvalidArgument(
            "without a router of its own it cannot be started from a kernel",
            where=where,
            got=type(layer.router).__name__,
            expected="a router of convfold.dynamic",
        )
    if weight.shape != layer.weight.shape[1:]:
        raise InvalidArgument(
            "the kernel does not fit", where=where, got=tuple(weight.shape), expected=tuple(layer.weight.shape[1:])
        )
    if bias is not None and layer.bias is None:
        raise InvalidArgument("the layer was built with bias=False", where=where, got="a bias to start from")
    total = layer.num_experts * layer.router.neutral
    with torch.no_grad():
        layer.router.reset()
        layer.weight.copy_(weight / total + centred_noise(weight, layer.num_experts, noise))
        if layer.bias is not None:
            layer.bias.copy_((torch.zeros_like(layer.bias[0]) if bias is None else bias / total).expand_as(layer.bias))
