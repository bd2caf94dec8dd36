"""Experts that are blocks: stacking the kernels that they compose."""

from __future__ import annotations

import torch
from torch import Tensor

from convfold.algebra import Conv, ConvTranspose
from convfold.dynamic.mixture import Mixture
from convfold.errors import InvalidArgument

__all__ = ["combined"]


def combined(convs: list[Conv | ConvTranspose], static: Tensor | None) -> Mixture:
    """The mixture of these convolutions, which must have one window, one number of groups and one padding mode."""
    first = convs[0]
    alike = {(type(c).__name__, c.window, c.groups, getattr(c, "padding_mode", "")) for c in convs}
    if len(alike) > 1 or not isinstance(first, Conv):
        raise InvalidArgument("experts differ in window, groups or padding mode", got=sorted(map(str, alike)))
    bias = None
    if any(c.bias is not None for c in convs):
        bias = torch.stack([c.weight.new_zeros(c.out_channels) if c.bias is None else c.bias for c in convs])
    weight = torch.stack([c.weight for c in convs])
    return Mixture(weight, bias, static, first.window, first.groups, first.padding_mode)
