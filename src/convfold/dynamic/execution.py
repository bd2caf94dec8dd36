"""The ways to compute a mixture: equal in values and gradients, different in what they cost.

| way | what runs | batch |
|---|---|---|
| `grouped` | one convolution with N*groups groups, in chunks of samples whose kernels stay in the cache | fixed |
| `whole` | the same with all samples in one chunk | fixed |
| `product` | 1x1 only: a batched matrix product | free |
| `patches` | every tap gathered beside the others, then a batched matrix product | free |
| `loop` | a convolution per sample | fixed |
| `feature` | one convolution with all experts' rows, its outputs weighted and added | free |

A way with a fixed batch cannot be exported with a free one: the number of samples is in its structure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product as every
from math import prod
from typing import Any

import torch
from torch import Tensor

from convfold.algebra import Conv, apply
from convfold.algebra.readings.apply import pad
from convfold.dynamic.mixture import Mixture, mixed_bias, mixed_kernels
from convfold.dynamic.rule import samples_at_once
from convfold.geometry import out_size

__all__ = ["FREE_BATCH", "WAYS", "feature", "grouped", "loop", "patches", "product", "whole"]


def _with_bias(y: Tensor, bias: Tensor | None, dims: int) -> Tensor:
    # In y's type: under autocast the outputs are narrower than the parameters, as a plain convolution's are.
    return y if bias is None else y + bias.to(y.dtype)[(..., *(None,) * dims)]


def _rows(mixture: Mixture, routing: Tensor) -> Tensor | None:
    """The bias of each sample, (N, C_out) or None."""
    bias = mixed_bias(mixture, routing)
    return bias if bias is None or bias.dim() == 2 else bias.expand(routing.shape[0], -1)


def grouped(mixture: Mixture, x: Tensor, routing: Tensor) -> Tensor:
    """Kernel fusion: samples become groups of one convolution, (1, n*C_in, *size) with n*groups groups.

    `samples_at_once` says how many; kernels are mixed just before they are used.
    """
    size = samples_at_once(mixture, x.shape[0])
    if size >= x.shape[0]:
        return whole(mixture, x, routing)
    parts = zip(torch.split(x, size), torch.split(routing, size), strict=True)
    return torch.cat([whole(mixture, some, pi) for some, pi in parts])


def whole(mixture: Mixture, x: Tensor, routing: Tensor) -> Tensor:
    """`grouped` with all samples at once, as published: needs all kernels in memory together."""
    samples = x.shape[0]
    kernels, bias = mixed_kernels(mixture, routing).flatten(0, 1), _rows(mixture, routing)
    bias = None if bias is None else bias.reshape(-1)
    conv = Conv(kernels, bias, mixture.window, samples * mixture.groups, mixture.padding_mode)
    y = apply(conv, x.reshape(1, -1, *x.shape[2:]))
    return y.reshape(samples, mixture.out_channels, *y.shape[2:])


def loop(mixture: Mixture, x: Tensor, routing: Tensor) -> Tensor:
    """Kernel fusion as it is defined: one convolution per sample."""
    kernels, bias = mixed_kernels(mixture, routing), _rows(mixture, routing)
    window, groups, mode = mixture.window, mixture.groups, mixture.padding_mode
    biases = [None] * x.shape[0] if bias is None else bias
    one = [apply(Conv(w, b, window, groups, mode), v[None]) for w, b, v in zip(kernels, biases, x, strict=True)]
    return torch.cat(one)


def product(mixture: Mixture, x: Tensor, routing: Tensor) -> Tensor:
    """Kernel fusion where kernels have one tap: ``y[n] = W[n] @ x[n]`` with positions as columns."""
    x = pad(x, tuple((a.lo, a.hi) for a in mixture.window), mixture.padding_mode)
    if any(axis.stride > 1 for axis in mixture.window):
        x = _cut(x, [slice(None, None, axis.stride) for axis in mixture.window])
    return _multiplied(mixture, x.reshape(x.shape[0], x.shape[1], -1), x.shape[2:], routing)


def patches(mixture: Mixture, x: Tensor, routing: Tensor) -> Tensor:
    """Kernel fusion as a product with all taps side by side: ``y[n] = W[n] @ [x[n] shifted by each tap]``."""
    x = pad(x, tuple((a.lo, a.hi) for a in mixture.window), mixture.padding_mode)
    # torch.jit's tracer writes the sizes of a view of windows down as numbers, torch.export those of a slice's end.
    gathered = _shifted(mixture, x) if torch.jit.is_tracing() else _windows(mixture, x)
    size = tuple(gathered.shape[3:])
    return _multiplied(mixture, gathered.flatten(1, 2).flatten(2), size, routing)


def _windows(mixture: Mixture, x: Tensor) -> Tensor:
    """(N, C_in, taps, *size): every window of the padded x, by a view."""
    dims = mixture.dims
    for axis, a in enumerate(mixture.window, start=2):
        x = x.unfold(axis, a.span, a.stride)
    x = _cut(x, [slice(None, None, a.dilation) for a in mixture.window])
    x = x.permute(0, 1, *range(2 + dims, 2 + 2 * dims), *range(2, 2 + dims))
    return x.flatten(2, 1 + dims)


def _shifted(mixture: Mixture, x: Tensor) -> Tensor:
    """The same by a slice of x for each tap."""
    unpadded = tuple(replace(a, lo=0, hi=0) for a in mixture.window)
    size, taps = out_size(unpadded, tuple(x.shape[2:])), []
    for offsets in every(*(range(a.kernel) for a in mixture.window)):
        starts = [a.dilation * j for a, j in zip(mixture.window, offsets, strict=True)]
        ends = [s + a.stride * (n - 1) + 1 for s, a, n in zip(starts, mixture.window, size, strict=True)]
        taps.append(_cut(x, [slice(s, e, a.stride) for s, e, a in zip(starts, ends, mixture.window, strict=True)]))
    return torch.stack(taps, dim=2)


def _cut(x: Tensor, slices: list[slice]) -> Tensor:
    index: Any = (..., *slices)
    return x[index]


def _multiplied(mixture: Mixture, columns: Tensor, size: tuple[int, ...], routing: Tensor) -> Tensor:
    groups, rows = mixture.groups, mixture.out_channels // mixture.groups
    kernels, bias = mixed_kernels(mixture, routing), _rows(mixture, routing)
    if groups == 1:
        kernels = kernels.flatten(2)
        y = torch.bmm(kernels, columns) if bias is None else torch.baddbmm(bias[:, :, None], kernels, columns)
        return y.reshape(-1, mixture.out_channels, *size)
    inner = prod(mixture.weight.shape[2:])
    y = kernels.reshape(-1, groups, rows, inner) @ torch.unflatten(columns, 1, (groups, inner))
    return _with_bias(y.reshape(-1, mixture.out_channels, *size), bias, mixture.dims)


def feature(mixture: Mixture, x: Tensor, routing: Tensor) -> Tensor:
    """Feature fusion: one convolution gives every expert's features, which are weighted and added."""
    experts, groups = mixture.experts, mixture.groups
    width = mixture.out_channels // groups
    # Rows of one group must lie together: (K, groups, width) -> (groups, K, width).
    rows = torch.unflatten(mixture.weight, 1, (groups, width)).transpose(0, 1).flatten(0, 2)
    y = apply(Conv(rows, None, mixture.window, groups, mixture.padding_mode), x)
    size = y.shape[2:]
    y = y.reshape(-1, groups, experts, width, prod(size))
    if routing.dim() == 2:
        mixed = torch.einsum("ngkwp,nk->ngwp", y, routing.to(y.dtype))
    else:
        mixed = torch.einsum("ngkwp,nkgw->ngwp", y, torch.unflatten(routing.to(y.dtype), 2, (groups, width)))
    return _with_bias(mixed.reshape(-1, mixture.out_channels, *size), mixed_bias(mixture, routing), mixture.dims)


Way = Callable[[Mixture, Tensor, Tensor], Tensor]
WAYS: dict[str, Way] = {
    "grouped": grouped,
    "whole": whole,
    "product": product,
    "patches": patches,
    "loop": loop,
    "feature": feature,
}
FREE_BATCH = frozenset({"product", "patches", "feature"})
