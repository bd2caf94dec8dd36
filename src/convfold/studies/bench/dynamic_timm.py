"""timm's ``CondConv2d`` as a layer of its own, for comparison; timm is an optional package."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from convfold.zoo import import_torchvision

__all__ = ["timm_layer"]


class _Routed(nn.Module):
    """timm's layer takes its coefficients as an argument: CondConv's routing before it, as timm's networks do."""

    def __init__(self, layer: nn.Module, channels: int, experts: int) -> None:
        super().__init__()
        self.layer, self.routing = layer, nn.Linear(channels, experts)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, torch.sigmoid(self.routing(x.mean((2, 3)))))  # type: ignore[no-any-return]


def timm_layer(arguments: dict[str, Any], experts: int) -> nn.Module | None:
    """``CondConv2d`` with a bias and the arguments of a convolution, or None where timm is not installed."""
    if find_spec("timm") is None:
        return None
    import_torchvision()
    layer = importlib.import_module("timm.layers").CondConv2d(**arguments, bias=True, num_experts=experts)
    return _Routed(layer, arguments["in_channels"], experts)
