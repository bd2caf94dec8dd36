"""The convolutions and products with a matrix of a counted model, as plain layers."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from torch import nn

from convfold.cost.report import CostReport, Row
from convfold.errors import ConvfoldError
from convfold.geometry import conv_window, point
from convfold.geometry.closed import Layer, convolution

__all__ = ["PlacedLayer", "placed_layers"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class PlacedLayer:
    """What a row of a report executes, as one layer run `calls` times; or the `reason` why it cannot be told.

    `item`: bytes of one number.
    """

    row: Row
    layer: Layer | None = None
    calls: int = 1
    bias: bool = False
    item: int = 4
    reason: str = ""


def placed_layers(model: nn.Module, report: CostReport) -> tuple[PlacedLayer, ...]:
    """One for each row of `report`, a count of `model`, that executes convolutions or products."""
    modules = dict(model.named_modules())
    return tuple(_placed(row, modules.get(row.path)) for row in report.rows if row.convolutions or row.macs)


def _placed(row: Row, module: nn.Module | None) -> PlacedLayer:
    if isinstance(module, _TRANSPOSED):
        return PlacedLayer(row, reason="it is a transposed convolution")
    if not isinstance(module, (*_CONVOLUTIONS, nn.Linear)) or len(row.inputs) != 1:
        return PlacedLayer(row, reason="what it executes is not that of one nn.Conv or nn.Linear")
    try:
        layer = _linear(module, row.inputs[0]) if isinstance(module, nn.Linear) else _conv(module, row.inputs[0])
    except ConvfoldError as error:
        return PlacedLayer(row, reason=str(error))
    once = convolution(layer).macs
    if not once or row.macs % once or row.macs // once != max(row.convolutions, 1):
        return PlacedLayer(row, reason="it executes more than its own convolution, or runs at several sizes")
    return PlacedLayer(row, layer, row.macs // once, module.bias is not None, module.weight.element_size())


def _linear(module: nn.Linear, shape: tuple[int, ...]) -> Layer:
    batch, positions = (shape[0], prod(shape[1:-1])) if len(shape) > 1 else (1, 1)
    return Layer(module.in_features, module.out_features, point(1), (positions,), 1, batch)


def _conv(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, shape: tuple[int, ...]) -> Layer:
    dims = len(module.kernel_size)
    window = conv_window(dims, module.kernel_size, module.stride, module.padding, module.dilation)
    batch = shape[0] if len(shape) == dims + 2 else 1
    return Layer(module.in_channels, module.out_channels, window, tuple(shape[-dims:]), module.groups, batch)
