"""Blocks that add normalised branches: which norm a branch ends with, the common bias, and the exact start."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from convfold.algebra import Affine, Op, Pad, Pads, chain_of, sum_of
from convfold.blocks.base import Block, Scale, start_conv
from convfold.errors import InvalidArgument

__all__ = ["Branched", "absorbed", "fill"]

_NORMS: dict[int, Any] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Branched(Block):
    """A sum of branches, each ending in its own normalisation; `dense` is the branch that holds the full kernel.

    ``norm="bn"`` ends each branch in a batch normalisation, as published. ``norm="scale"`` ends it in a
    learned factor per channel: no batch statistics, so the block trains in kernel mode for about the price
    of a plain convolution; put a batch normalisation after the block then. `bias` is added after the sum;
    the published blocks have none, their batch normalisations shift already.
    """

    has_norm: ClassVar[bool] = True
    dense: nn.Module
    dense_norm: nn.Module

    def _build(self, *, norm: str = "bn") -> None:
        if norm not in ("bn", "scale"):
            raise InvalidArgument(
                "norm is unknown", where=type(self).__name__, got=repr(norm), expected="'bn' or 'scale'"
            )
        self.norm = norm
        self.bias: nn.Parameter | None = None
        if self._bias:
            fan_in = self.in_channels // self.groups * math.prod(self.kernel_size)
            self.bias = nn.Parameter(torch.empty(self.out_channels, **self._placement))
            nn.init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
        self._build_branches()

    def _build_branches(self) -> None:
        raise NotImplementedError

    def branches(self) -> Iterator[Op]:
        """The terms of the sum, the dense one first."""
        raise NotImplementedError

    def other_norms(self) -> Iterator[nn.Module]:
        """The last normalisation of every branch but the dense one."""
        raise NotImplementedError

    def op(self) -> Op:
        shift = None if self.bias is None else Affine(None, self.bias, self.dims)
        return chain_of(sum_of(*self.branches()), shift)

    def start(self, weight: Tensor, bias: Tensor | None = None, norm: nn.Module | None = None) -> None:
        """The dense branch takes the kernel and a copy of `norm`; every other branch ends in a factor of zero.

        ``y = norm(W*x + b) + 0``: exact in training mode too when `norm` is given, because a constant before
        a batch normalisation only moves its mean. Without `norm` the dense statistics are those of the
        identity, exact in eval mode. Zero factors have a gradient at once, the kernels behind them after one step.
        """
        start_conv(self.dense, weight)
        with torch.no_grad():
            for other in self.other_norms():
                fill(other, 0.0)
            if norm is not None:
                self.dense_norm = absorbed(norm, bias)
                self._follow(norm)
                bias = None
            else:
                fill(self.dense_norm, 1.0)
            self._start_bias(bias)

    def _start_bias(self, bias: Tensor | None) -> None:
        if self.bias is not None:
            self.bias.copy_(torch.zeros_like(self.bias) if bias is None else bias)
        elif bias is not None:
            raise InvalidArgument("the block was built with bias=False", got="a bias to start from")

    def _follow(self, norm: nn.Module) -> None:
        """Let the other branches' normalisations use the settings of the one that was absorbed."""
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and isinstance(
                norm, nn.modules.batchnorm._BatchNorm
            ):
                module.eps, module.momentum = norm.eps, norm.momentum
                module.training = norm.training

    def _norm(self, channels: int) -> nn.Module:
        if self.norm == "scale":
            return Scale(channels, self.dims, **self._placement)
        return _NORMS[self.dims](channels, **self._placement)  # type: ignore[no-any-return]

    def _ring(self, *behind: nn.Module) -> Pads | None:
        """The ring that zero padding puts around the map before `behind`, padded with its own response."""
        before, _ = self._split_pads(*behind)
        positive = tuple((max(lo, 0), max(hi, 0)) for lo, hi in before)
        return positive if self.padding_mode == "zeros" and any(map(any, positive)) else None

    def _has_identity(self) -> bool:
        return self.in_channels == self.out_channels and all(s == 1 for s in self.stride)

    def _identity(self, norm: nn.Module) -> Op:
        """The normalised input, seen through the centre tap."""
        pads = self._centred((1,) * self.dims)
        crop = Pad(self.in_channels, pads, self.padding_mode) if any(map(any, pads)) else None
        return chain_of(crop, self._after(norm))

    def _build_dense(self) -> None:
        self.dense = self._inner(self.in_channels, self.out_channels, self.kernel_size, **self._at_window())
        self.dense_norm = self._norm(self.out_channels)

    def _dense_branch(self) -> Op:
        """``norm(W_k * x)``"""
        return chain_of(self._placed(self.dense, self.pads), self._after(self.dense_norm))

    def _at_window(self) -> dict[str, Any]:
        """Stride and dilation for a convolution with the block's own window."""
        return {"stride": self.stride, "dilation": self.dilation}


def fill(norm: nn.Module, factor: float) -> None:
    """Make a normalisation multiply by `factor` exactly, in eval mode."""
    if isinstance(norm, nn.modules.batchnorm._BatchNorm):
        norm.reset_running_stats()
        if norm.running_var is not None:
            norm.running_var.fill_(1.0 - norm.eps)  # so that var + eps is one
        norm.bias.zero_()
    norm.weight.fill_(factor)  # type: ignore[operator, union-attr]


def absorbed(norm: nn.Module, bias: Tensor | None) -> nn.Module:
    """A copy of `norm` that gives for x what `norm` gives for ``x + bias``: its mean moves by the bias."""
    absorbed = copy.deepcopy(norm)
    mean = getattr(absorbed, "running_mean", None)
    if bias is not None and mean is not None:
        mean.sub_(bias)
    return absorbed
