"""Random dynamic layers, and what they compute written as slowly and plainly as can be."""

from __future__ import annotations

import random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold import dynamic

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
KINDS = ("CondConv", "DynamicConv", "DyNetConv")


def random_layer(seed: int, kind: str | None = None, dtype: torch.dtype = torch.float64) -> tuple[Any, Tensor]:
    """A layer of random arguments, its parameters drawn, and an input that fits it."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    dims = rng.choice((1, 2, 2, 3))
    groups = rng.choice((1, 1, 2, 4))
    inputs, outputs = groups * rng.randint(1, 3), groups * rng.randint(1, 3)
    if rng.random() < 0.2:
        inputs = groups = 4
        outputs = 4 * rng.choice((1, 2))
    size = tuple(rng.choice((1, 2, 3)) for _ in range(dims))
    padding = tuple(rng.randint(0, 2) for _ in range(dims))
    options = {
        "stride": tuple(rng.choice((1, 2)) for _ in range(dims)),
        "padding": padding,
        "dilation": tuple(rng.choice((1, 2)) for _ in range(dims)),
        "groups": groups,
        "bias": rng.random() < 0.6,
        "padding_mode": rng.choice(("zeros", "zeros", "reflect", "replicate", "circular")),
        "num_experts": rng.choice((1, 2, 4, 6)),
    }
    name = f"{kind or rng.choice(KINDS)}{dims}d"
    layer = getattr(dynamic, name)(inputs, outputs, size, **options, dtype=dtype)
    for parameter in layer.parameters():
        parameter.data.normal_()
    shape = tuple(rng.randint(5, 8) for _ in range(dims))
    return layer, torch.randn(rng.choice((1, 2, 5)), inputs, *shape, dtype=dtype)


def sample_by_sample(layer: Any, x: Tensor, routing: Tensor) -> Tensor:
    """``conv(x_n, sum_k pi_nk W_k) + sum_k pi_nk b_k``, one sample and one expert after another, by torch alone."""
    outputs = []
    for sample, pi in zip(x, routing, strict=True):
        kernel, bias = torch.zeros_like(layer.weight[0]), torch.zeros_like(layer.weight[0, :, :1].flatten(1)[:, 0])
        for k in range(layer.num_experts):
            factor = pi[k] if pi[k].dim() == 0 else pi[k].reshape(-1, *(1,) * (kernel.dim() - 1))
            kernel = kernel + factor * layer.weight[k]
            if layer.bias is not None:
                bias = bias + pi[k] * layer.bias[k]
        padded, padding = sample[None], layer.padding
        if layer.padding_mode != "zeros" and any(padding):
            sides = [p for p in reversed(padding) for _ in range(2)]
            padded, padding = F.pad(padded, sides, mode=layer.padding_mode), 0
        conv = CONV[layer.dims]
        outputs.append(conv(padded, kernel, bias, layer.stride, padding, layer.dilation, layer.groups))
    return torch.cat(outputs)
