"""The operators that hold no other: convolutions, normalisation, pooling, padding, selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from convfold.algebra.operators.base import Op
from convfold.errors import InvalidArgument
from convfold.geometry import Axis, Window, point

__all__ = ["AvgPool", "Conv", "ConvTranspose", "Identity", "Norm", "Pad", "Pads", "Select", "pointwise"]

Pads = tuple[tuple[int, int], ...]
MODES = ("zeros", "reflect", "replicate", "circular")


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise InvalidArgument("padding mode is unknown", got=repr(mode), expected=f"one of {MODES}")


def _check_kernel(operator: str, weight: Tensor, window: Window, groups: int) -> None:
    taps = tuple(axis.kernel for axis in window)
    if tuple(weight.shape[2:]) != taps or weight.dim() != 2 + len(taps):
        raise InvalidArgument(
            f"the kernel of {operator} does not fit its window",
            got=f"shape {tuple(weight.shape)}",
            expected=f"two channel axes, then {taps}",
        )
    if groups < 1 or weight.shape[0] % groups:
        raise InvalidArgument(
            f"the groups of {operator} do not divide its rows", got=f"{groups} groups, {weight.shape[0]} rows"
        )


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """``y[o, i] = b[o] + sum_{c, j} W[o, c, j] * x[c, s*i - lo + d*j]`` within each of `groups` groups.

    weight (C_out, C_in/groups, *kernel), bias (C_out,) or None. `padding_mode` fills what `window` reads
    outside the input. With an empty window it is a fully connected layer.
    """

    weight: Tensor
    bias: Tensor | None
    window: Window
    groups: int = 1
    padding_mode: str = "zeros"

    def __post_init__(self) -> None:
        _check_mode(self.padding_mode)
        _check_kernel("Conv", self.weight, self.window, self.groups)

    @property
    def dims(self) -> int:
        return len(self.window)

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class ConvTranspose(Op):
    """The transpose of a convolution: ``y[o, s*i - lo + d*j] += W[c, o, j] * x[c, i]``, plus the bias.

    weight (C_in, C_out/groups, *kernel), bias (C_out,) or None. An axis' `lo` is PyTorch's padding and its
    `hi` is padding minus output_padding.
    """

    weight: Tensor
    bias: Tensor | None
    window: Window
    groups: int = 1

    def __post_init__(self) -> None:
        _check_kernel("ConvTranspose", self.weight, self.window, self.groups)

    @property
    def dims(self) -> int:
        return len(self.window)

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[1]) * self.groups


@dataclass(frozen=True, eq=False)
class Norm(Op):
    """Batch normalisation by a live module: ``y = gamma*(x - mean)/sqrt(var + eps) + beta``.

    With a `ring` of (lo, hi) per axis the statistics of a training step are taken over the map without its
    ring, and the ring is normalised with them: so an intermediate value can be padded with its own response
    to zero, and the border is exact in training as well.
    """

    module: nn.Module
    dims: int
    ring: Pads | None = None

    @property
    def in_channels(self) -> int:
        return cast(int, self.module.num_features)

    @property
    def out_channels(self) -> int:
        return self.in_channels


class _PerChannel(Op):
    """Operators with as many channels out as in."""

    channels: int

    @property
    def in_channels(self) -> int:
        return self.channels

    @property
    def out_channels(self) -> int:
        return self.channels


@dataclass(frozen=True, eq=False)
class AvgPool(_PerChannel):
    """``y[c, i] = (1/divisor) * sum_j x[c, s*i - lo + d*j]``; the divisor is the number of taps by default.

    With `count_include_pad` false the divisor counts only taps that are no zero padding; with `ceil_mode`
    the last window may hang over the end. Either is linear, but no single convolution.
    """

    channels: int
    window: Window
    padding_mode: str = "zeros"
    count_include_pad: bool = True
    ceil_mode: bool = False
    divisor: int | None = None

    def __post_init__(self) -> None:
        _check_mode(self.padding_mode)
        if self.ceil_mode and not self.is_native:
            raise InvalidArgument(
                "ceil_mode means nothing to a pooling that torch does not have",
                got=str(self.window),
                expected="zero padding, equal on both sides and at most half the kernel, without dilation",
            )

    @property
    def is_native(self) -> bool:
        """Whether torch pools so: zero padding, equal on both sides, at most half the kernel, no dilation."""
        plain = all(a.lo == a.hi >= 0 and 2 * a.lo <= a.kernel and a.span == a.kernel for a in self.window)
        return plain and self.padding_mode == "zeros" and self.dims > 0 and (self.divisor is None or self.dims > 1)

    @property
    def dims(self) -> int:
        return len(self.window)


@dataclass(frozen=True, eq=False)
class Identity(_PerChannel):
    """``y = x``."""

    channels: int
    dims: int


@dataclass(frozen=True, eq=False)
class Pad(_PerChannel):
    """Pad (or, where negative, crop) each axis by (lo, hi); `mode` says with what.

    With mode "zeros" a `value` of shape (C,) is put outside instead of zero.
    """

    channels: int
    pads: Pads
    mode: str = "zeros"
    value: Tensor | None = None

    def __post_init__(self) -> None:
        _check_mode(self.mode)
        if self.value is not None and self.mode != "zeros":
            raise InvalidArgument(
                "a value is padded only in mode zeros", got=f"a value in mode {self.mode!r}", expected="mode 'zeros'"
            )

    @property
    def dims(self) -> int:
        return len(self.pads)

    @property
    def window(self) -> Window:
        return tuple(Axis(lo=lo, hi=hi) for lo, hi in self.pads)


@dataclass(frozen=True, eq=False)
class Select(Op):
    """``y[o] = x[index[o]]``: a selection, a permutation, a shuffle or a repetition of channels."""

    index: tuple[int, ...]
    in_channels: int
    dims: int

    def __post_init__(self) -> None:
        if not self.index or min(self.index) < 0 or max(self.index) >= self.in_channels:
            raise InvalidArgument(
                "Select reads a channel that is not there",
                got=f"indices {self.index}",
                expected=f"at least one, each from 0 to {self.in_channels - 1}",
            )

    @property
    def out_channels(self) -> int:
        return len(self.index)

    @classmethod
    def block(cls, start: int, stop: int, in_channels: int, dims: int) -> Select:
        """Channels `start` to `stop`, the end left out."""
        return cls(tuple(range(start, stop)), in_channels, dims)

    @classmethod
    def shuffle(cls, channels: int, groups: int, dims: int) -> Select:
        """ShuffleNet's channel shuffle: (groups, C/groups) transposed to (C/groups, groups)."""
        width = channels // groups
        return cls(tuple(g * width + c for c in range(width) for g in range(groups)), channels, dims)


def pointwise(weight: Tensor, bias: Tensor | None, dims: int, groups: int = 1) -> Conv:
    """A 1x1 convolution from a matrix (C_out, C_in/groups): a Linear layer on every position."""
    return Conv(weight.reshape(*weight.shape, *(1,) * dims), bias, point(dims), groups)
