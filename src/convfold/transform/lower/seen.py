"""What a target can hold against one executed operator: its numbers, without its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from convfold.algebra import Conv, ConvTranspose
from convfold.geometry import Axis, Window

__all__ = ["Seen", "seen_call", "seen_linear", "seen_op"]

_SAYS = {"conv": "convolution", "transposed": "transposed convolution", "linear": "Linear"}


@dataclass(frozen=True)
class Seen:
    """One convolution ("conv", "transposed") or product with a matrix ("linear"), as it is executed.

    `window` is empty for a Linear; `maps` tells whether a Linear reads maps or tokens, (N, ..., C), rather than one
    vector for each sample.
    """

    kind: str
    in_channels: int
    out_channels: int
    groups: int
    window: Window
    maps: bool = False

    @property
    def kernel(self) -> tuple[int, ...]:
        return tuple(axis.kernel for axis in self.window)

    @property
    def width(self) -> int:
        """Input channels of a group."""
        return self.in_channels // self.groups

    @property
    def one_tap(self) -> bool:
        """A 1x1 convolution, or a transposed one, of any dimension and stride."""
        return self.kind != "linear" and all(k == 1 for k in self.kernel)

    def __str__(self) -> str:
        said = [f"{_SAYS[self.kind]} {self.in_channels} -> {self.out_channels}"]
        if self.window:
            said[0] = f"{'x'.join(map(str, self.kernel))} {said[0]}"
            for name, usual in (("stride", 1), ("dilation", 1)):
                values = {getattr(axis, name) for axis in self.window}
                if values != {usual}:
                    said.append(f"{name} {'x'.join(str(getattr(axis, name)) for axis in self.window)}")
        if self.groups > 1:
            said.append(f"{self.groups} groups")
        if self.maps:
            said.append("on maps")
        return ", ".join(said)


def seen_op(layer: Conv | ConvTranspose) -> Seen:
    """The numbers of an operator that was read from a module."""
    kind = "transposed" if isinstance(layer, ConvTranspose) else "conv" if layer.window else "linear"
    return Seen(kind, layer.in_channels, layer.out_channels, layer.groups, layer.window)


def seen_linear(weight: Tensor, maps: bool) -> Seen:
    """The numbers of a product with a matrix (C_out, C_in)."""
    return Seen("linear", weight.shape[1], weight.shape[0], 1, (), maps)


def seen_call(args: tuple[Any, ...]) -> Seen:
    """The numbers of one call of ``aten.convolution``, whose nine arguments are `args`."""
    _, weight, _, strides, pads, dilations, transposed, extras, groups = args
    taps = tuple(weight.shape[2:])

    def along(values: Any) -> tuple[int, ...]:
        return tuple(values) * (len(taps) if len(values) == 1 else 1)

    rows = zip(taps, along(strides), along(dilations), along(pads), along(extras), strict=True)
    window = tuple(Axis(k, s, d, p, p - o if transposed else p) for k, s, d, p, o in rows)
    first, second = weight.shape[0], weight.shape[1] * groups
    return (
        Seen("transposed", first, second, groups, window) if transposed else Seen("conv", second, first, groups, window)
    )
