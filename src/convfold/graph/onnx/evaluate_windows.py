"""Convolutions and pools of ONNX in float64: any number of spatial axes up to three, all ways to pad."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.graph.onnx.evaluate_numbers import Array, as_array, as_tensor

__all__ = ["average_pool", "conv", "conv_transpose", "max_pool"]

Attributes = dict[str, Any]


def _listed(attributes: Attributes, name: str, default: int, rank: int) -> list[int]:
    return list(attributes.get(name) or [default] * rank)


def _same(size: int, reach: int, stride: int, upper: bool) -> tuple[int, int]:
    total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)


def _pads(
    attributes: Attributes, sizes: Sequence[int], reaches: Sequence[int], strides: Sequence[int]
) -> list[tuple[int, int]]:
    """What is padded before and behind each spatial axis; `reaches` are the extents of the window."""
    mode = attributes.get("auto_pad") or "NOTSET"
    rank = len(sizes)
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return [_same(*axis, mode == "SAME_UPPER") for axis in zip(sizes, reaches, strides, strict=True)]
    pads = _listed(attributes, "pads", 0, 2 * rank) if mode == "NOTSET" else [0] * (2 * rank)
    return list(zip(pads[:rank], pads[rank:], strict=True))


def _padded(x: Tensor, pads: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    flat = [n for pair in reversed(pads) for n in pair]
    return F.pad(x, flat, value=value) if any(flat) else x


def _depthwise(x: Tensor, weight: Tensor, strides: list[int], dilations: list[int]) -> Tensor:
    """One input channel to each output: sums of shifted inputs, as torch has no fast way in float64."""
    kernel = weight.shape[2:]
    sizes = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(x.shape[2:], kernel, dilations, strides, strict=True)]
    x = x.repeat_interleave(weight.shape[0] // x.shape[1], 1)
    total = x.new_zeros(*x.shape[:2], *(max(n, 0) for n in sizes))
    for number, tap in enumerate(product(*map(range, kernel))):
        starts = [t * d for t, d in zip(tap, dilations, strict=True)]
        window = [slice(start, start + (n - 1) * s + 1, s) for start, n, s in zip(starts, sizes, strides, strict=True)]
        factor = weight[:, 0].flatten(1)[:, number]
        total.addcmul_(x[:, :, *window], factor.reshape(-1, *[1] * len(kernel)))
    return total


def conv(attributes: Attributes, x: Array, w: Array, b: Array | None = None) -> Array:
    """Conv."""
    rank = w.ndim - 2
    groups = int(attributes.get("group", 1))
    strides, dilations = _listed(attributes, "strides", 1, rank), _listed(attributes, "dilations", 1, rank)
    reaches = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    inner = _padded(as_tensor(x), _pads(attributes, x.shape[2:], reaches, strides))
    weight = as_tensor(w)
    if groups == x.shape[1] > 1 and w.shape[1] == 1:
        y = _depthwise(inner, weight, strides, dilations)
    else:
        function: Callable[..., Tensor] = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
        y = function(inner, weight, None, strides, 0, dilations, groups)
    if b is not None:
        y += as_tensor(b).reshape(-1, *[1] * rank)
    return as_array(y)


def conv_transpose(attributes: Attributes, x: Array, w: Array, b: Array | None = None) -> Array:
    """ConvTranspose: the whole extent, cropped (or extended) to what pads or `output_shape` say."""
    rank = w.ndim - 2
    groups = int(attributes.get("group", 1))
    strides, dilations = _listed(attributes, "strides", 1, rank), _listed(attributes, "dilations", 1, rank)
    more = _listed(attributes, "output_padding", 0, rank)
    function: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    y = function(as_tensor(x), as_tensor(w), None, strides, 0, 0, groups, dilations)
    mode = attributes.get("auto_pad") or "NOTSET"
    asked = attributes.get("output_shape")
    if asked is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        asked = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    if asked is None:
        pads = _pads({**attributes, "auto_pad": "NOTSET" if mode == "NOTSET" else "VALID"}, x.shape[2:], [], strides)
        asked = [n + m - before - behind for n, m, (before, behind) in zip(y.shape[2:], more, pads, strict=True)]
        starts = [before for before, _ in pads]
    else:
        asked = list(asked)[-rank:]
        totals = [max(n + m - size, 0) for n, m, size in zip(y.shape[2:], more, asked, strict=True)]
        starts = [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals]
    ends = [size - n + start for size, n, start in zip(asked, y.shape[2:], starts, strict=True)]
    y = _padded(y, [(-start, end) for start, end in zip(starts, ends, strict=True)])
    if b is not None:
        y = y + as_tensor(b).reshape(-1, *[1] * rank)
    return as_array(y)


def _windows(attributes: Attributes, shape: Sequence[int]) -> list[tuple[int, int, int, int, int, int]]:
    """For each spatial axis: kernel, stride, dilation, padding before and behind, and how many windows."""
    kernel = list(attributes["kernel_shape"])
    rank = len(kernel)
    strides, dilations = _listed(attributes, "strides", 1, rank), _listed(attributes, "dilations", 1, rank)
    reaches = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = _pads(attributes, shape, reaches, strides)
    found = []
    for n, k, s, d, reach, (before, behind) in zip(shape, kernel, strides, dilations, reaches, pads, strict=True):
        room = n + before + behind - reach
        count = room // s + 1
        # A window that would start in the padding behind is dropped.
        if attributes.get("ceil_mode") and -(-room // s) * s < n + before:
            count = -(-room // s) + 1
        found.append((k, s, d, before, behind, count))
    return found


def _reduced(
    x: Tensor, windows: list[tuple[int, int, int, int, int, int]], fill: float, reduce: Callable[[Tensor], Tensor]
) -> Tensor:
    """Windows reduced axis by axis: sums and maxima of boxes allow it."""
    for axis, (k, s, d, before, behind, count) in enumerate(windows, 2):
        reach = (k - 1) * d + 1
        missing = max((count - 1) * s + reach - x.shape[axis] - before - behind, 0)
        pads = [(0, 0)] * (x.dim() - 2)
        pads[axis - 2] = (before, behind + missing)
        x = reduce(_padded(x, pads, fill).unfold(axis, reach, s)[..., ::d].narrow(axis, 0, count))
    return x


def max_pool(attributes: Attributes, x: Array) -> Array:
    """MaxPool, without indices."""
    windows = _windows(attributes, x.shape[2:])
    return as_array(_reduced(as_tensor(x), windows, -math.inf, lambda t: t.amax(-1)).contiguous())


def average_pool(attributes: Attributes, x: Array) -> Array:
    """AveragePool."""
    windows = _windows(attributes, x.shape[2:])
    total = _reduced(as_tensor(x), windows, 0.0, lambda t: t.sum(-1))
    counts: Array = np.ones(())
    padded = bool(attributes.get("count_include_pad"))
    for n, (k, s, d, before, behind, count) in zip(x.shape[2:], windows, strict=True):
        at = np.arange(count)[:, None] * s + np.arange(k)[None, :] * d - before
        inside = (at < n + behind) if padded else (at >= 0) & (at < n)
        counts = counts[..., None] * inside.sum(1)
    return as_array(total / torch.from_numpy(np.asarray(counts, np.float64)))
