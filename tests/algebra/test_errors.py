"""Every sentence that geometry and algebra can say: where, what was got, what was expected, what to do."""

# ruff: noqa: E501 -- each sentence stands on one line, as it is read

from __future__ import annotations

import pytest
import torch
from torch import nn

from convfold.algebra import (
    Affine,
    AvgPool,
    Chain,
    Concat,
    Conv,
    ConvTranspose,
    Identity,
    Norm,
    Pad,
    Select,
    Sum,
    as_full_map,
    bias_map,
    chain_of,
    fold_border,
    kernel,
    ones_channel,
    op,
    sum_of,
)
from convfold.algebra.readings.module import as_module, check_foldable
from convfold.errors import ConvfoldError, InvalidArgument, InvalidType, NotFoldable
from convfold.geometry import Axis, conv_window, point, union
from support.make import Make

MAKE = Make(0)
W = torch.ones(4, 2, 3)


def conv(window, mode="zeros", bias=False):
    return MAKE.conv(2, 2, window, bias=bias, mode=mode)


class Doubled(nn.Conv2d):
    """A subclass with a forward of its own is another function."""

    def forward(self, x):
        return 2 * super().forward(x)


class Twice(nn.Sequential):
    def forward(self, x):
        return super().forward(super().forward(x))


class Renamed(nn.Identity):
    def forward(self, x):
        return x + 1


def training_norm():
    return Norm(nn.BatchNorm1d(2), 1)


INVALID = [
    (lambda: conv_window(2, "3"), "kernel_size is neither an integer nor a tuple of integers: got '3', expected 2 integers."),
    (lambda: conv_window(2, 3, (1, 1.5)), "stride is neither an integer nor a tuple of integers: got (1, 1.5), expected 2 integers."),
    (lambda: conv_window(2, 3, 1, (1, 1, 1)), "padding has the wrong length: got (1, 1, 1), expected 2 integers."),
    (lambda: conv_window(1, 3, 1, -1), "padding is too small: got -1, expected at least 0 each."),
    (lambda: conv_window(1, 0), "kernel_size is too small: got 0, expected at least 1 each."),
    (lambda: conv_window(1, 3, 1, 0, 0), "dilation is too small: got 0, expected at least 1 each."),
    (lambda: conv_window(1, 3, 1, "full"), "padding is unknown: got 'full', expected 'same', 'valid' or integers."),
    (lambda: conv_window(1, 3, 2, "same"), "padding='same' has no meaning with a stride: got stride (2,), expected stride 1."),
    (lambda: Affine(None, None, 2), "Affine has neither scale nor shift. Use Identity."),
    (lambda: Affine(torch.ones(2, 3), None, 1), "the scale of Affine is not per channel: got shape (2, 3), expected (C,)."),
    (lambda: Pad(2, ((1, 1),), "edge"), "padding mode is unknown: got 'edge', expected one of ('zeros', 'reflect', 'replicate', 'circular')."),
    (lambda: Conv(W, None, (Axis(3),), 1, "edge"), "padding mode is unknown: got 'edge'"),
    (lambda: AvgPool(2, (Axis(3),), "edge"), "padding mode is unknown: got 'edge'"),
    (lambda: Pad(2, ((1, 1),), "reflect", torch.ones(2)), "a value is padded only in mode zeros: got a value in mode 'reflect', expected mode 'zeros'."),
    (lambda: Conv(W, None, (Axis(5),)), "the kernel of Conv does not fit its window: got shape (4, 2, 3), expected two channel axes, then (5,)."),
    (lambda: Conv(W, None, (Axis(3), Axis(3))), "the kernel of Conv does not fit its window"),
    (lambda: Conv(W, None, (Axis(3),), 3), "the groups of Conv do not divide its rows: got 3 groups, 4 rows."),
    (lambda: ConvTranspose(W, None, (Axis(2),)), "the kernel of ConvTranspose does not fit its window"),
    (lambda: ConvTranspose(W, None, (Axis(3),), 0), "the groups of ConvTranspose do not divide its rows: got 0 groups, 4 rows."),
    (lambda: AvgPool(2, (Axis(3, 1, 2),), ceil_mode=True), "ceil_mode means nothing to a pooling that torch does not have: got "),
    (lambda: Select((0, 4), 4, 2), "Select reads a channel that is not there: got indices (0, 4), expected at least one, each from 0 to 3."),
    (lambda: Select((), 4, 2), "Select reads a channel that is not there: got indices ()"),
    (lambda: Select((-1,), 4, 2), "Select reads a channel that is not there: got indices (-1,)"),
    (lambda: Identity(2, 1) + Identity(3, 1), "branches of a sum differ in channels: got ['2 -> 2 in 1-D', '3 -> 3 in 1-D'], expected equal ones."),
    (lambda: Concat((Identity(2, 1), Identity(2, 2))), "branches of a concatenation read different inputs: got ['2 -> 2 in 1-D', '2 -> 2 in 2-D']."),
    (lambda: Identity(2, 1) >> conv(point(2)), "Conv does not fit after Identity: got 2 channels in 1-D, expected 2 channels in 2-D."),
    (lambda: Chain(()), "a chain holds no operator. Use Identity."),
    (lambda: Sum(()), "a sum holds no operator."),
    (lambda: Concat(()), "a concatenation holds no operator."),
    (lambda: chain_of(None), "a chain holds no operator. Use Identity."),
    (lambda: sum_of(None, None), "a sum holds no operator."),
    (lambda: fold_border(conv(point(1)), conv(point(1)), "pad"), "border answer is unknown: got 'pad', expected 'refuse', 'ones' or 'map'."),
    (
        lambda: fold_border(conv(point(1), bias=True), conv((Axis(3, lo=1),)), "map"),
        "a bias map needs the input's spatial size: got size=None.",
    ),
    (lambda: ones_channel(conv(point(1)), conv(point(1))), "the first convolution has no bias. Compose the two directly."),
    (lambda: bias_map(conv(point(1)), conv(point(1)), (3,)), "the first convolution has no bias. Compose the two directly."),
    (
        lambda: as_full_map(MAKE.conv(6, 2, ()), 2, (2, 2)),
        "the fully connected layer does not read this map: got 6 inputs in 1 groups, expected 2 x 2 x 2 = 8 in one group.",
    ),
]  # fmt: skip

PADDED = (Axis(3, lo=1, hi=1),)
REFUSED = [
    (lambda: union(((Axis(1, 2),), (Axis(1),))), "sum is not folded: the branches have different strides [1, 2]."),
    (lambda: kernel(conv((Axis(3),)) + conv(point(1))), "sum is not folded: the branches give different output sizes. Match padding to kernel size."),
    (lambda: kernel(conv(PADDED) + conv(PADDED, "circular")), "sum is not folded: the branches pad in different modes ['circular', 'zeros']."),
    (lambda: kernel(Concat((conv(PADDED), conv(PADDED, "circular")))), "concat is not folded: the branches pad in different modes"),
    (lambda: kernel(conv(PADDED) >> conv(PADDED)), "chain is not folded: the second convolution pads with zeros where the first one's response is not zero. Put all padding on the first convolution."),
    (lambda: kernel(conv(PADDED, "reflect") >> conv(PADDED, "reflect")), "chain is not folded: reflect padding between two convolutions does not commute with the first. Only a 1x1 convolution of stride 1 may stand before it."),
    (lambda: kernel(conv(point(1), bias=True) >> conv(PADDED)), "chain is not folded: its bias is not constant at the border of the zero-padded convolution after it. Pad the first convolution instead, or ask for an exact border: a ones channel (any size) or a bias map (static size)."),
    (lambda: kernel(MAKE.affine(2, 1) >> conv(PADDED)), "affine is not folded: its bias is not constant at the border"),
    (lambda: kernel(training_norm()), 'BatchNorm1d is not folded: in training mode it uses the statistics of each batch, so there is no kernel. Call eval() first, or build the block with norm="scale" to train in weight space.'),
    (lambda: kernel(Norm(nn.BatchNorm1d(2, track_running_stats=False).eval(), 1)), "BatchNorm1d is not folded: it keeps no running statistics, so it is no fixed linear map. Build it with track_running_stats=True and let it see data."),
    (lambda: kernel(Affine(None, torch.ones(2, 3), 1)), "affine is not folded: a bias map is not a constant bias. Keep it as an addition."),
    (lambda: kernel(AvgPool(2, (Axis(2),), ceil_mode=True)), "AvgPool is not folded: ceil_mode lets its divisor vary over the map. Count the padding, without ceil_mode."),
    (lambda: kernel(Pad(2, ((1, 1),), value=torch.ones(2))), "Pad is not folded: padding with a value that is not the response to zero before it."),
    (lambda: op(nn.ReLU()), "ReLU is not folded: it is not linear, or its forward is not known to convfold. Give it an op() method that returns its equation."),
    (lambda: op(nn.AvgPool2d(2)), "AvgPool2d is not folded: its channels are not known."),
    (lambda: op(Doubled(2, 2, 1)), "Doubled is not folded: it is not linear, or its forward is not known to convfold."),
    (lambda: op(Twice(nn.Conv2d(2, 2, 1))), "Twice is not folded: it is not linear, or its forward is not known"),
    (lambda: op(Renamed(), channels=2, dims=1), "Renamed is not folded: it is not linear, or its forward is not known"),
    (lambda: as_module(conv((Axis(3, lo=2, hi=1),))), "Conv is not folded: its padding ((2, 1),) is negative or differs between the two sides, which no nn.Conv can hold. Choose a padding that suits the kernel sizes."),
    (lambda: as_module(conv((Axis(1, lo=-1, hi=-1),))), "Conv is not folded: its padding ((-1, -1),) is negative or differs"),
    (lambda: as_module(MAKE.transposed(2, 2, (Axis(3, 2, 1, 0, 1),))), "ConvTranspose is not folded: no nn.ConvTranspose holds padding (0,) with output padding (-1,)."),
    (lambda: check_foldable(training_norm()), "BatchNorm1d is not folded: it is in training mode, where it uses the statistics of each batch. Call eval() on the model first."),
    (lambda: check_foldable(Affine(torch.tensor([1.0, float("nan")]), None, 1)), "kernel is not folded: 1 of its 2 values in a tensor of shape (2,) are not finite. Repair the weights (a diverged training?) before folding."),
]  # fmt: skip


def names(rows):
    return [sentence[:70] for _, sentence in rows]


@pytest.mark.parametrize(("call", "sentence"), INVALID, ids=names(INVALID))
def test_what_an_impossible_argument_is_told(call, sentence):
    with pytest.raises(InvalidArgument) as caught:
        call()
    check(str(caught.value), sentence)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("call", "sentence"), REFUSED, ids=names(REFUSED))
def test_what_a_refusal_says(call, sentence):
    with pytest.raises(NotFoldable) as caught:
        call()
    check(str(caught.value), sentence)
    assert isinstance(caught.value, ConvfoldError)
    assert str(caught.value) == str(caught.value.refusal)


def check(said, sentence):
    """The rows give sentences from their beginning; most give them whole."""
    assert said.startswith(sentence)
    assert said.endswith(".")


def test_op_reads_modules_only():
    with pytest.raises(InvalidType, match=r"op\(\) reads modules: got int, expected torch.nn.Module"):
        op(3)
