"""Small faults in the source of the laws: the function, a piece of its text, and what is put in its place."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from convfold.algebra.laws import scale, special

# The package's own name `compose` is the law, not the file.
compose = import_module("convfold.algebra.laws.compose")

__all__ = ["CHAIN_FAULTS"]

Fault = tuple[Callable[..., Any], str, str]

CHAIN_FAULTS: dict[str, Fault] = {
    "drop the mean": (
        special.norm_as_affine,
        "module.bias.to(scale.dtype) - mean * scale",
        "module.bias.to(scale.dtype)",
    ),
    "drop the mean without affine": (special.norm_as_affine, "-mean * scale if", "0 * mean if"),
    "drop beta": (special.norm_as_affine, "module.bias.to(scale.dtype) - mean", "-mean"),
    "drop gamma": (special.norm_as_affine, "scale = scale * module.weight.to(scale.dtype)", "scale = scale"),
    "drop the eps": (special.norm_as_affine, "variance + module.eps", "variance"),
    "variance for deviation": (
        special.norm_as_affine,
        "torch.rsqrt(variance + module.eps)",
        "1 / (variance + module.eps)",
    ),
    "drop the conv bias in a scale": (scale.affine_after_conv, "add_biases(bias, shift)", "shift"),
    "conv bias not scaled": (scale.affine_after_conv, "bias * affine.scale.to(bias)", "bias"),
    "drop the shift after": (scale.affine_after_conv, "add_biases(bias, shift)", "bias"),
    "drop the pushed shift": (scale.conv_after_affine, "add_biases(pushed, conv.bias)", "conv.bias"),
    "drop the later bias": (scale.conv_after_affine, "add_biases(pushed, conv.bias)", "pushed"),
    "scale before repeats its first group": (
        scale.conv_after_affine,
        "reshape(conv.groups, 1, -1,",
        "reshape(conv.groups, 1, -1)[:1].reshape(1, 1, -1,",
    ),
    "second scale does not reach the first shift": (
        scale.affine_after_affine,
        "shift * second.scale.to(shift)",
        "shift",
    ),
    "second shift dropped": (scale.affine_after_affine, "add_biases(shift, second.shift)", "shift"),
    "flip the composed kernel": (
        compose._pairs,
        "_TRANSPOSED[len(inner)](flat2, flat1,",
        "_TRANSPOSED[len(inner)](flat2, flat1.flip(-1),",
    ),
    "flip the second kernel": (
        compose._pairs,
        "_TRANSPOSED[len(inner)](flat2,",
        "_TRANSPOSED[len(inner)](flat2.flip(-1),",
    ),
    "forget the first stride between taps": (compose._pairs, "u.stride * t.dilation", "t.dilation"),
    "forget the first dilation": (compose._pairs, "u.dilation // lattice if u.kernel > 1 else 1", "1"),
    "blocks not transposed back": (
        compose.compose_kernels,
        "reshape(groups, split1, out // groups, width, *kernel).transpose(1, 2)",
        "reshape(groups, out // groups, split1, width, *kernel)",
    ),
    "blocks of columns not taken": (
        compose.compose_kernels,
        "reshape(groups, out // groups, split1, middle // batch, *kernel2).transpose(1, 2)",
        "reshape(groups, split1, out // groups, middle // batch, *kernel2)",
    ),
    "index groups by modulo": (
        compose.regroup,
        "reshape(fewer, blocks, out // groups,",
        "reshape(fewer, out // groups, blocks,",
    ),
    "regroup without a diagonal": (compose.regroup, "torch.eye(blocks,", "torch.ones(blocks, blocks,"),
    "ignore groups in push_bias": (
        compose.push_bias,
        "bias.reshape(conv.groups, 1, -1)",
        "bias.reshape(conv.groups, 1, -1)[:1]",
    ),
    "push only one tap": (compose.push_bias, ".sum(-1)\n    rows", "[..., 0]\n    rows"),
    "push a bias past zero padding": (compose.push_bias, 'conv.padding_mode == "zeros" and', "False and"),
    "drop the first bias of a chain": (compose.compose, "add_biases(pushed, second.bias)", "second.bias"),
    "drop the second bias of a chain": (compose.compose, "add_biases(pushed, second.bias)", "pushed"),
    "lose a bias of a sum": (compose.add_biases, "total + bias", "total"),
}
