"""Windows, groups, borders and counts of convolutions, decided on plain integers; tensors only follow."""

from convfold.geometry.counts import conv_macs, out_size, transposed_size
from convfold.geometry.groups import chain_groups, common_groups, kept_groups, legal_groups, nearest_groups
from convfold.geometry.window import (
    Axis,
    Placement,
    Window,
    chain,
    chain_mode,
    conv_window,
    embed,
    has_padding,
    point,
    reads_past_border,
    union,
)

__all__ = [
    "Axis",
    "Placement",
    "Window",
    "chain",
    "chain_groups",
    "chain_mode",
    "common_groups",
    "conv_macs",
    "conv_window",
    "embed",
    "has_padding",
    "kept_groups",
    "legal_groups",
    "nearest_groups",
    "out_size",
    "point",
    "reads_past_border",
    "transposed_size",
    "union",
]
