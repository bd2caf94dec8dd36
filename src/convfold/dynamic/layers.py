"""The layers by name: three ways of routing, each in one, two and three dimensions, and two fully connected ones."""

from __future__ import annotations

from typing import Any

import torch

from convfold.blocks.nesting import ConvFactory
from convfold.dynamic.base import DynamicLayer
from convfold.dynamic.routing import AttentionRouter, ChannelRouter, Router, SigmoidRouter

__all__ = [
    "CondConv1d",
    "CondConv2d",
    "CondConv3d",
    "CondLinear",
    "DyNetConv1d",
    "DyNetConv2d",
    "DyNetConv3d",
    "DynamicConv1d",
    "DynamicConv2d",
    "DynamicConv3d",
    "DynamicLinear",
]


class _Cond(DynamicLayer):
    """CondConv: ``y = conv(x, sum_k sigmoid(R GAP(x))_k W_k)``. Yang et al., NeurIPS 2019, arXiv 1904.04971.

    The coefficients are not normalised. Multiply-accumulates of a sample: those of the convolution,
    plus K times the kernel's elements for mixing, plus C_in * K for routing.
    """

    name = "condconv"

    def _own_router(self, placement: dict[str, Any], options: dict[str, Any]) -> Router:
        return SigmoidRouter(self.in_channels, self.num_experts, self.dims, **placement, **options)


class _Dynamic(DynamicLayer):
    """DynamicConv: ``y = conv(x, sum_k softmax(attention(x) / tau)_k W_k)``. Chen et al., CVPR 2020, arXiv 1912.03458.

    The attention is squeeze-and-excitation over K kernels; `reduction` and `temperature` are its options, see
    `AttentionRouter`. Put a batch normalisation and a ReLU after it, and cool it with `TemperatureSchedule`.
    """

    name = "dynamicconv"

    def _own_router(self, placement: dict[str, Any], options: dict[str, Any]) -> Router:
        return AttentionRouter(self.in_channels, self.num_experts, self.dims, **placement, **options)


class _DyNet(DynamicLayer):
    """DyNet: ``y[o] = conv(x, sum_k pi_k,o(x) W_k[o])``, a coefficient per expert *and* output channel.

    One predictor serves a block in the paper: build its layers with ``router=None`` and give them the coefficients
    of a `SharedRouter`. Zhang et al., 2020, arXiv 2004.10694.
    """

    name = "dynet"
    default_experts = 6

    def _own_router(self, placement: dict[str, Any], options: dict[str, Any]) -> Router:
        options = {"out_channels": self.out_channels, **options}
        return ChannelRouter(self.in_channels, self.num_experts, self.dims, **placement, **options)


class CondConv1d(_Cond):
    dims = 1


class CondConv2d(_Cond):
    dims = 2


class CondConv3d(_Cond):
    dims = 3


class DynamicConv1d(_Dynamic):
    dims = 1


class DynamicConv2d(_Dynamic):
    dims = 2


class DynamicConv3d(_Dynamic):
    dims = 3


class DyNetConv1d(_DyNet):
    dims = 1


class DyNetConv2d(_DyNet):
    dims = 2


class DyNetConv3d(_DyNet):
    dims = 3


class _Linear(DynamicLayer):
    """A fully connected layer mixed per sample, on (N, in_features) or (N, *tokens, in_features)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        conv: ConvFactory = None,
        **options: Any,
    ) -> None:
        super().__init__(in_features, out_features, (), bias=bias, device=device, dtype=dtype, conv=conv, **options)


class CondLinear(_Linear, _Cond):
    """CondConv's fully connected form: ``y = (sum_k sigmoid(R x)_k W_k) x``; arXiv 1904.04971."""

    dims = 0


class DynamicLinear(_Linear, _Dynamic):
    """The dynamic perceptron: ``y = (sum_k softmax(attention(x) / tau)_k W_k) x + ...``; arXiv 1912.03458."""

    dims = 0
