"""What is kept of data: the moments of a layer's input patches, by which any kernel's output error is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from convfold.transform.decompose.layer import Layer

__all__ = ["Moments", "patches"]

_MOST = 1 << 23  # numbers of one block of patches


@dataclass(frozen=True)
class Moments:
    """Over all positions of some data, with patches x (m * taps) per group and what the layer lacks, e = y - (W x + b):

    `count` P, `first` sum x (g, m*taps), `second` sum x x^T, `lack` sum e (g, n), `cross` sum e x^T (g, n, m*taps),
    `missing` sum |e|^2, `output` sum |y|^2. With the layer's own inputs e is zero.
    """

    count: int
    first: Tensor
    second: Tensor
    lack: Tensor
    cross: Tensor
    missing: float
    output: float

    def __add__(self, other: Moments) -> Moments:
        return Moments(**{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__})

    @classmethod
    def none(cls, layer: Layer) -> Moments:
        """Of no data."""
        shape = layer.shape
        size = shape.columns * shape.taps

        def zeros(*sizes: int) -> Tensor:
            return torch.zeros(shape.groups, *sizes, dtype=torch.float64)

        return cls(0, zeros(size), zeros(size, size), zeros(shape.rows), zeros(shape.rows, size), 0.0, 0.0)

    @classmethod
    def of(cls, layer: Layer, x: Tensor, y: Tensor | None = None) -> Moments:
        """Of a layer's inputs; `y` is what it should have given for them, where that is not what it does give."""
        total = cls.none(layer)
        for start, rows in patches(layer, x):
            out = rows @ layer.weight.flatten(2).mT
            if layer.bias is not None:
                out = out + layer.bias.reshape(out.shape[0], 1, -1)
            wanted = out if y is None else _positions(layer, y, start, rows.shape[1])
            lack = wanted - out
            total += cls(
                rows.shape[1],
                rows.sum(1),
                rows.mT @ rows,
                lack.sum(1),
                lack.mT @ rows,
                float(lack.square().sum()),
                float(wanted.square().sum()),
            )
        return total

    def square(self, change: Tensor, shift: Tensor | None) -> float:
        """``sum |y' - y|^2`` for the kernel ``W + change`` (g, n, m*taps) and the bias ``b + shift`` (g, n):
        ``tr(D C D^T) - 2 tr(D cross^T) + missing + 2 shift (D first - lack) + P |shift|^2``."""
        total = float(((change @ self.second) * change).sum()) - 2 * float((change * self.cross).sum()) + self.missing
        if shift is not None:
            moved = torch.einsum("gni,gi->gn", change, self.first) - self.lack
            total += 2 * float((shift * moved).sum()) + self.count * float(shift.square().sum())
        return max(total, 0.0)

    def best_shift(self, change: Tensor) -> Tensor:
        """The change of the bias that serves a change of the kernel best: the mean of what is then lacking."""
        return (self.lack - torch.einsum("gni,gi->gn", change, self.first)) / self.count

    def problem(self, weight: Tensor, with_bias: bool) -> tuple[Tensor, Tensor]:
        """The kernel T to come close to, and the metric C: ``sum |y' - y|^2 = tr((W' - T) C (W' - T)^T) + constant``.

        With a bias, that takes up the mean, C is the centred second moment. T is W where the layer sees its own inputs;
        else ``W + cross (C + l I)^-1`` (Zhang et al., arXiv:1505.06798, section 3.2, solves for both at once), with
        l the variance of what is lacking over that of the kernel's entries: the ridge of an estimate that holds both
        for normal.
        """
        metric, cross = self.second, self.cross
        if with_bias:
            metric = metric - torch.einsum("gi,gj->gij", self.first, self.first) / self.count
            cross = cross - torch.einsum("gn,gi->gni", self.lack, self.first) / self.count
        flat = weight.flatten(2)
        if not self.missing:
            return flat, metric
        noise = self.missing / max(self.count * self.lack.numel(), 1)
        prior = float(flat.square().mean())
        ridge = noise / prior if prior else 0.0
        eye = torch.eye(metric.shape[-1], dtype=metric.dtype)
        return flat + torch.linalg.solve(metric + ridge * eye, cross.mT).mT, metric

    def lengths(self) -> Tensor:
        """``sqrt(sum x_i^2)`` per entry of a patch (g, m*taps): with it a sum of absolute terms is bounded."""
        return self.second.diagonal(dim1=-2, dim2=-1).clamp_min(0).sqrt()


def patches(layer: Layer, x: Tensor) -> list[tuple[int, Tensor]]:
    """What the layer reads, in float64: blocks (groups, positions, m * taps), each with its first sample."""
    shape, axes = layer.shape, len(layer.shape.kernel)
    x = x.detach().to("cpu", torch.float64)
    if not axes:
        return [(0, x.reshape(1, -1, shape.columns))]
    x = x if x.dim() == axes + 2 else x.unsqueeze(0)
    mode = cast(_ConvNd, layer.module).padding_mode
    pads = [amount for axis in reversed(layer.window) for amount in (axis.lo, axis.hi)]
    if any(pads):
        x = F.pad(x, pads, mode="constant" if mode == "zeros" else mode)
    for index, axis in enumerate(layer.window):
        x = x.unfold(2 + index, axis.span, axis.stride)[..., :: axis.dilation]
    out = x.shape[2 : 2 + axes]
    step = max(1, _MOST // max(prod(out) * shape.inputs * shape.taps, 1))
    blocks = []
    for start in range(0, x.shape[0], step):
        some = x[start : start + step]
        some = some.reshape(some.shape[0], shape.groups, shape.columns, *out, *shape.kernel)
        order = (1, 0, *range(3, 3 + axes), 2, *range(3 + axes, 3 + 2 * axes))
        blocks.append((start, some.permute(order).reshape(shape.groups, -1, shape.columns * shape.taps)))
    return blocks


def _positions(layer: Layer, y: Tensor, start: int, count: int) -> Tensor:
    """Outputs (N, C, *out) as (groups, positions, rows), `count` positions from sample `start` on."""
    shape, axes = layer.shape, len(layer.shape.kernel)
    y = y.detach().to("cpu", torch.float64)
    if not axes:
        return y.reshape(1, -1, shape.rows)
    y = y if y.dim() == axes + 2 else y.unsqueeze(0)
    each = prod(y.shape[2:])
    some = y[start : start + count // each]
    return some.reshape(some.shape[0], shape.groups, shape.rows, each).permute(1, 0, 3, 2).flatten(1, 2)


def summed(moments: Sequence[Moments]) -> Moments:
    """Of all the data together."""
    total = moments[0]
    for more in moments[1:]:
        total = total + more
    return total
