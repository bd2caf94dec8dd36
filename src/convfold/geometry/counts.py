"""Output sizes and multiply-accumulates in closed form."""

from __future__ import annotations

from math import prod

from convfold.geometry.window import Axis, Window

__all__ = ["conv_macs", "out_size", "transposed_size"]


def out_size(window: Window, size: tuple[int, ...]) -> tuple[int, ...]:
    """Output size per axis: ``floor((n + lo + hi - span) / stride) + 1``.

    >>> out_size((Axis(3, 2, 1, 1, 1),) * 2, (11, 11))
    (6, 6)
    """
    return tuple((n + axis.slack) // axis.stride + 1 for axis, n in zip(window, size, strict=True))


def transposed_size(axis: Axis, size: int) -> int:
    """Output size of a transposed convolution: ``(n - 1)*stride - lo - hi + span``; `hi` holds output padding.

    >>> transposed_size(Axis(3, 2, 1, 1, 0), 5)
    10
    """
    return (size - 1) * axis.stride - axis.lo - axis.hi + axis.span


def conv_macs(window: Window, in_channels: int, out_channels: int, groups: int, size: tuple[int, ...]) -> int:
    """Multiply-accumulates of one sample: ``prod(out) * prod(k) * C_in * C_out / g``, zero padding counted.

    >>> conv_macs((Axis(3, 2, 1, 1, 1),) * 2, 3, 16, 1, (11, 11))
    15552
    """
    taps = prod(axis.kernel for axis in window)
    return prod(out_size(window, size)) * taps * in_channels * out_channels // groups
