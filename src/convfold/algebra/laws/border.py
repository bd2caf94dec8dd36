"""The exact answers to a bias before a zero-padded convolution, chosen by name.

``conv2(pad0(conv1(x) + b))`` is one convolution except at the border, where the constant b is missing. Either
the padding moves to the front (another function, the one training blocks are built with), or the bias
becomes a kernel tap on a channel of ones, or a precomputed map is added, or the fold is refused.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from convfold.algebra.laws.compose import compose, compose_kernels, regroup
from convfold.algebra.operators import Affine, Chain, Concat, Conv, Identity, Op, Pads, Select
from convfold.algebra.readings.apply import apply, per_channel
from convfold.errors import InvalidArgument, NotFoldable, Refusal
from convfold.geometry import Axis, chain, chain_groups, chain_mode, has_padding, out_size

__all__ = ["bias_map", "fold_border", "ones_channel", "pad_first"]


def pad_first(conv: Conv, pads: Pads) -> Conv:
    """Pad with the value: ``pad(W*x + b, value=b) = W*pad(x, 0) + b``, where ``W*pad(x, 0)`` is zero outside.

    So a convolution whose output is padded with its own response to zero carries the padding itself. Raises
    NotFoldable where W still reads the input at the padded positions: it must have one tap, or full padding.
    """
    after = tuple(Axis(lo=lo, hi=hi) for lo, hi in pads)
    mode = chain_mode(conv.window, conv.padding_mode, after, "zeros")
    return Conv(conv.weight, conv.bias, chain(conv.window, after), conv.groups, mode)


def ones_channel(first: Conv, second: Conv) -> Chain:
    """The bias as a kernel tap: append one channel of ones per group, ``[W2 W1 | W2 b1] * [x; 1] + b2``.

    Exact for any input size; C_in + g channels. Raises NotFoldable unless `first` has one tap per axis, no
    padding, and reads the input at every position of its output.
    """
    if any(a.kernel > 1 or not -a.stride < a.lo <= 0 or a.hi != 0 for a in first.window):
        raise NotFoldable(
            Refusal("ones channel", "the first convolution has more than one tap, or padding", hint="Use a bias map.")
        )
    if first.bias is None:
        raise InvalidArgument("the first convolution has no bias", hint="Compose the two directly.")
    mode = chain_mode(first.window, first.padding_mode, second.window, second.padding_mode)
    groups = chain_groups(first.groups, second.groups)
    weight = regroup(first.weight, first.groups, groups)
    extra = first.bias.reshape(-1, 1, *(1,) * first.dims).to(weight)
    widened = Conv(torch.cat([weight, extra], dim=1), None, first.window, groups)
    conv = Conv(compose_kernels(widened, second), second.bias, chain(first.window, second.window), groups, mode)
    one, zero = weight.new_ones(1), weight.new_zeros(1)
    channels, dims, width = first.in_channels, first.dims, first.in_channels // groups
    ones = Select((0,), channels, dims) >> Affine(zero, one, dims)
    pieces: list[Op] = []
    for g in range(groups):
        block = Select.block(g * width, (g + 1) * width, channels, dims)
        pieces += [Identity(channels, dims) if groups == 1 else block, ones]
    return Concat(tuple(pieces)) >> conv


def bias_map(first: Conv, second: Conv, size: tuple[int, ...]) -> Chain:
    """The bias as a map: ``(W2 W1)*x + (W2 * pad0(b1) + b2)``, the bracket computed once for input `size`."""
    if first.bias is None:
        raise InvalidArgument("the first convolution has no bias", hint="Compose the two directly.")
    middle = out_size(first.window, size)
    constant = per_channel(first.bias, first.dims).expand(-1, *middle)
    response = apply(second, constant.unsqueeze(0)).squeeze(0)
    conv = compose(replace(first, bias=None), replace(second, bias=None))
    return conv >> Affine(None, response, first.dims)


def fold_border(first: Conv, second: Conv, border: str = "refuse", size: tuple[int, ...] | None = None) -> Op:
    """`second` after `first` with the border answer of that name: "refuse", "ones" or "map".

    Where the bias is constant anyway, all three give the one composed convolution. "map" needs the input's
    spatial `size`. Raises NotFoldable where the answer does not apply.
    """
    if border not in ("refuse", "ones", "map"):
        raise InvalidArgument("border answer is unknown", got=repr(border), expected="'refuse', 'ones' or 'map'")
    harmless = first.bias is None or second.padding_mode != "zeros" or not has_padding(second.window)
    if harmless or border == "refuse":
        return compose(first, second)
    if border == "ones":
        return ones_channel(first, second)
    if size is None:
        raise InvalidArgument("a bias map needs the input's spatial size", got="size=None")
    return bias_map(first, second, size)
