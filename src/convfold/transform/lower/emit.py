"""Operators as torch modules: what a module cannot hold of a padding becomes a step of its own."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from convfold.algebra import Conv, ConvTranspose
from convfold.algebra.readings.module import as_module
from convfold.geometry import Axis, has_padding
from convfold.transform.lower.steps import AddBias, Pad

__all__ = ["Steps", "bare", "conv_steps", "joined", "transposed_steps"]

Steps = list[nn.Module]


def _none(axis: Axis) -> Axis:
    return replace(axis, lo=0, hi=0)


def bare(conv: Conv, keep_symmetric: bool = False) -> tuple[Steps, Conv]:
    """``conv = bare_conv after steps``, the padding taken off the window into a `Pad` before it.

    With `keep_symmetric` an axis whose zero padding is the same on both sides keeps it.
    """
    zeros = conv.padding_mode == "zeros" or not has_padding(conv.window)
    own = [keep_symmetric and zeros and axis.lo == axis.hi >= 0 for axis in conv.window]
    pads = tuple((0, 0) if kept else (axis.lo, axis.hi) for kept, axis in zip(own, conv.window, strict=True))
    window = tuple(axis if kept else _none(axis) for kept, axis in zip(own, conv.window, strict=True))
    steps: Steps = [Pad(pads, conv.padding_mode if not zeros else "zeros")] if any(map(any, pads)) else []
    return steps, Conv(conv.weight, conv.bias, window, conv.groups)


def conv_steps(conv: Conv) -> Steps:
    """One ``nn.Conv{1,2,3}d``, after a `Pad` where its padding differs between two sides or is negative."""
    if conv.padding_mode != "zeros" and all(axis.lo == axis.hi >= 0 for axis in conv.window):
        return [as_module(conv)]
    steps, plain = bare(conv, keep_symmetric=True)
    return [*steps, as_module(plain)]


def transposed_steps(conv: ConvTranspose) -> Steps:
    """One ``nn.ConvTranspose{1,2,3}d``, before a crop where its window is none that torch holds.

    Where the answer is larger than what the taps reach (output padding that torch does not allow), the bias comes last.
    """
    if all(axis.lo >= 0 and 0 <= axis.lo - axis.hi < max(axis.stride, axis.dilation) for axis in conv.window):
        return [as_module(conv)]
    whole = replace(conv, window=tuple(map(_none, conv.window)))
    crop = Pad(tuple((-axis.lo, -axis.hi) for axis in conv.window))
    if conv.bias is None or all(axis.lo >= 0 and axis.hi >= 0 for axis in conv.window):
        return [as_module(whole), crop]
    return [as_module(replace(whole, bias=None)), crop, AddBias(conv.bias, conv.dims)]


def joined(steps: Steps) -> nn.Module:
    """The steps as one module."""
    return steps[0] if len(steps) == 1 else nn.Sequential(*steps)
