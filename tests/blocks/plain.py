"""What the oracles are written with: torch.nn.functional and slices, no code of convfold.

An oracle is the equation of a paper on features: branches run one by one and added. Nothing here composes kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["border", "centred", "conv", "fill", "look_through", "mean_of_taps", "norm", "padded", "pads_of"]

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def pads_of(arguments: dict[str, Any]) -> list[tuple[int, int]]:
    """Padding before and after each axis, as torch documents it."""
    kernel, dilation, padding = (arguments[key] for key in ("kernel_size", "dilation", "padding"))
    if padding == "valid":
        return [(0, 0)] * len(kernel)
    if padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(p, p) for p in padding]


def _grow(x: Tensor, pads: list[tuple[int, int]], mode: str) -> Tensor:
    flat = [p for pair in reversed(pads) for p in pair]
    return F.pad(x, flat, mode="constant" if mode == "zeros" else mode) if any(flat) else x


def padded(x: Tensor, arguments: dict[str, Any]) -> Tensor:
    """The input with the padding of the whole block around it."""
    return _grow(x, pads_of(arguments), arguments["padding_mode"])


def fill(x: Tensor, arguments: dict[str, Any], value: Tensor) -> Tensor:
    """Pad with one value per channel: each channel by itself."""
    pads = [p for pair in reversed(pads_of(arguments)) for p in pair]
    if not any(pads):
        return x
    ones = F.pad(x[:1, :1] * 0, pads, value=1.0)
    view = value.reshape(1, -1, *[1] * (x.dim() - 2))
    return F.pad(x, pads) + ones * view


def conv(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any = 1, dilation: Any = 1, groups: int = 1) -> Tensor:
    """torch's convolution without padding."""
    return _CONV[x.dim() - 2](x, weight, bias, stride=stride, dilation=dilation, groups=groups)


def norm(x: Tensor, module: nn.Module) -> Tensor:
    """Batch normalisation in eval mode by its formula, or a factor per channel."""
    view = (1, -1, *[1] * (x.dim() - 2))
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return x * module.weight.reshape(view)
    deviation = (module.running_var + module.eps).sqrt().reshape(view)
    scaled = (x - module.running_mean.reshape(view)) / deviation
    return scaled * module.weight.reshape(view) + module.bias.reshape(view)


def look_through(x: Tensor, arguments: dict[str, Any], axes: Any = None) -> Tensor:
    """What lies under the centre tap (k-1)//2 of the window on the chosen `axes` (all by default)."""
    kernel, stride, dilation = (arguments[key] for key in ("kernel_size", "stride", "dilation"))
    for axis in range(len(kernel)) if axes is None else axes:
        k, s, d = kernel[axis], stride[axis], dilation[axis]
        count = (x.shape[2 + axis] - d * (k - 1) - 1) // s + 1
        start = d * ((k - 1) // 2)
        index = [slice(None)] * x.dim()
        index[2 + axis] = slice(start, start + s * (count - 1) + 1, s)
        x = x[tuple(index)]
    return x


def centred(x: Tensor, arguments: dict[str, Any], spans: tuple[int, ...]) -> Tensor:
    """The padded map `x` without what a kernel of `spans` taps, centred in the window, does not read."""
    for axis, (k, d, span) in enumerate(zip(arguments["kernel_size"], arguments["dilation"], spans, strict=True)):
        before = d * ((k - 1) // 2 - (span - 1) // 2)
        after = d * (k - span) - before
        x = x.narrow(2 + axis, before, x.shape[2 + axis] - before - after)
    return x


def mean_of_taps(x: Tensor, arguments: dict[str, Any]) -> Tensor:
    """The average over the window: shifted copies of the map, added."""
    kernel, stride, dilation = (arguments[key] for key in ("kernel_size", "stride", "dilation"))
    rows = list(zip(kernel, stride, dilation, x.shape[2:], strict=True))
    counts = [(n - d * (k - 1) - 1) // s + 1 for k, s, d, n in rows]
    total: Any = 0
    for tap in product(*(range(k) for k in kernel)):
        index = [slice(None), slice(None)]
        for t, (_, s, d, _), count in zip(tap, rows, counts, strict=True):
            index.append(slice(t * d, t * d + s * (count - 1) + 1, s))
        total = total + x[tuple(index)]
    taps = 1
    for k in kernel:
        taps *= k
    return total / taps


def border(y: Tensor, arguments: dict[str, Any]) -> Tensor:
    """Which positions of the output read padding."""
    kernel, stride, dilation = (arguments[key] for key in ("kernel_size", "stride", "dilation"))
    mask = y.new_zeros(y.shape[2:]).bool()
    for axis, (lo, hi) in enumerate(pads_of(arguments)):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        count = y.shape[2 + axis]
        for i in range(count):
            first = i * stride[axis] - lo
            total = (count - 1) * stride[axis] + span - lo - hi
            if first < 0 or first + span > max(total, 1):
                mask.select(axis, i).fill_(True)
    return mask
