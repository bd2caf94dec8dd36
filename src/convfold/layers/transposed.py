"""Depthwise separable transposed convolution: a learned upsampling for the price of a separable layer."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import nn

from convfold.algebra import Op
from convfold.algebra import op as read
from convfold.blocks.arguments import Named
from convfold.blocks.equation import Equation
from convfold.blocks.registry import Registry
from convfold.errors import InvalidArgument
from convfold.geometry import Axis, Window, conv_window
from convfold.geometry.groups import check_groups
from convfold.layers.base import check_count, scaled, unit_gain
from convfold.layers.registry import LAYERS

__all__ = [
    "DepthwiseSeparableConvTranspose1d",
    "DepthwiseSeparableConvTranspose2d",
    "DepthwiseSeparableConvTranspose3d",
    "DepthwiseSeparableTranspose",
]

_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class DepthwiseSeparableTranspose(Equation, Named):
    """``y = W * (D^T * x) + b``: r transposed kernels per input channel, then a 1x1.

    One transposed convolution ``K[i, o, j] = sum_s W[o, i, s] D[i, s, j]``; the arguments are those of
    ``nn.ConvTranspose{1,2,3}d``, r is `depth_multiplier`, the groups are those of W. ``pointwise="first"`` runs the 1x1
    on the small map, ``y = D^T * (W * x) + b`` with ``K[i, o, j] = sum_s W[o, s, i] D[o, s, j]``: the transpose of a
    depthwise separable convolution, and cheaper by the stride. Input (N, C_in, *spatial), output (N, C_out,
    *((n - 1)*s - 2*p + d*(k - 1) + output_padding + 1)). Starts with the spread of torch's own.

    Cost per sample, T taps, P_0 input and P output positions: MACs ``r*C_in*(P_0*T + P*C_out/g)``, first
    ``r*C_out*P_0*(C_in/g + T)``; parameters ``r*C_in*(T + C_out/g)``, first ``r*C_out*(C_in/g + T)``, C_out more with a
    bias. Howard et al., arXiv 1704.04861, transposed. Raises InvalidArgument for what no nn.ConvTranspose takes.
    """

    registry: ClassVar[Registry] = LAYERS
    name = "depthwise_separable_transpose"
    default_mode: ClassVar[str | None] = "feature"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        nn.Module.__init__(self)
        check_groups(in_channels, out_channels, groups)
        if padding_mode != "zeros" or isinstance(padding, str):
            raise InvalidArgument(
                "a transposed convolution pads with zeros, by numbers",
                where=type(self).__name__,
                got=f"padding={padding!r}, padding_mode={padding_mode!r}",
                expected="integers and 'zeros'",
            )
        plain = conv_window(self.dims, kernel_size, stride, padding, dilation)
        extra = tuple(axis.lo for axis in conv_window(self.dims, 1, 1, output_padding))
        self.window: Window = tuple(
            Axis(a.kernel, a.stride, a.dilation, a.lo, a.lo - e) for a, e in zip(plain, extra, strict=True)
        )
        if any(e >= max(a.stride, a.dilation) for a, e in zip(plain, extra, strict=True)):
            raise InvalidArgument(
                "output_padding is not below the stride or the dilation",
                where=type(self).__name__,
                got=f"output_padding {extra} with stride {stride}, dilation {dilation}",
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = tuple(axis.kernel for axis in plain)
        self.stride = tuple(axis.stride for axis in plain)
        self.dilation = tuple(axis.dilation for axis in plain)
        self.padding, self.output_padding = tuple(axis.lo for axis in plain), extra
        self.padding_mode = padding_mode
        self._bias, self._conv = bias, None
        self._placement = {"device": device, "dtype": dtype}
        self._build_with(options)

    def _build(self, *, depth_multiplier: int = 1, pointwise: str = "last") -> None:
        r = self.depth_multiplier = check_count(depth_multiplier, "depth_multiplier", self)
        if pointwise not in ("first", "last"):
            raise InvalidArgument(
                "pointwise is unknown", where=type(self).__name__, got=repr(pointwise), expected="'first' or 'last'"
            )
        self.pointwise_first = pointwise == "first"
        inputs, outputs, one = self.in_channels, self.out_channels, (1,) * self.dims
        # torch starts a transposed kernel by its outputs per group: the factors leave the spread that one dense
        # transposed convolution has, C_in / (3 C_out prod(s)) of the input's variance.
        if self.pointwise_first:
            self.pointwise = unit_gain(self._plain(inputs, outputs * r, one))
            self.depthwise = scaled(self._spread(outputs * r, outputs, self._bias), math.sqrt(inputs / (outputs * r)))
        else:
            self.depthwise = scaled(self._spread(inputs, inputs * r, False), math.sqrt(3 * r * inputs / outputs))
            self.pointwise = self._plain(inputs * r, outputs, one, bias=self._bias)

    def _spread(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """The depthwise transposed convolution."""
        return _TRANSPOSED[self.dims](  # type: ignore[no-any-return]
            inputs,
            outputs,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=min(inputs, outputs),
            bias=bias,
            dilation=self.dilation,
            **self._placement,
        )

    def op(self) -> Op:
        pointwise, depthwise = read(self.pointwise), read(self.depthwise)
        return pointwise >> depthwise if self.pointwise_first else depthwise >> pointwise

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}"
        for name, neutral in (("output_padding", 0), ("dilation", 1)):
            if any(value != neutral for value in getattr(self, name)):
                text += f", {name}={getattr(self, name)}"
        text += f", groups={self.groups}" if self.groups != 1 else ""
        text += "" if self._bias else ", bias=False"
        return f"{text}, mode={self.mode!r}"


class DepthwiseSeparableConvTranspose1d(DepthwiseSeparableTranspose):
    dims = 1


class DepthwiseSeparableConvTranspose2d(DepthwiseSeparableTranspose):
    dims = 2


class DepthwiseSeparableConvTranspose3d(DepthwiseSeparableTranspose):
    dims = 3
