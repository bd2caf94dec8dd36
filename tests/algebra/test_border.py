"""The four border answers: pad first, a channel of ones, a bias map, refuse. Each exact, ring and interior apart."""

from __future__ import annotations

import pytest
import torch

from convfold.algebra import (
    Affine,
    Chain,
    Concat,
    Conv,
    Pad,
    bias_map,
    fold_border,
    kernel,
    ones_channel,
    pad_first,
)
from convfold.errors import NotFoldable
from convfold.geometry import Axis, conv_window, point
from support.make import Make
from support.oracle import CEILING, assert_kernel, assert_same, worst

SIZES = {1: [(7,), (4,)], 2: [(5, 6), (4, 3)], 3: [(4, 3, 5)]}
dims_1_to_3 = pytest.mark.parametrize("dims", [1, 2, 3])
groups_grid = pytest.mark.parametrize("groups", [(1, 1), (2, 2), (4, 2), (2, 4), (4, 4)], ids=str)


def padded(dims, stride=1):
    return (Axis(3, stride, 1, 1, 1), Axis(2, 1, 2, 2, 0), Axis(3, 1, 1, 0, 1))[:dims]


def pair(dims, groups, seed=1, stride=1):
    make = Make(seed)
    return make.conv(4, 8, point(dims), groups[0]), make.conv(8, 4, padded(dims, stride), groups[1])


@dims_1_to_3
@groups_grid
def test_refused(dims, groups):
    first, second = pair(dims, groups)
    for fold in (lambda: kernel(first >> second), lambda: fold_border(first, second)):
        with pytest.raises(NotFoldable, match="its bias is not constant at the border") as caught:
            fold()
        assert "ones channel" in str(caught.value)
        assert "bias map" in str(caught.value)


def test_what_the_refusal_prevents_is_wrong_on_the_ring_alone():
    make = Make(1)
    first, second = make.conv(4, 8, point(2)), make.conv(8, 4, make.same(2))
    naive = kernel(Conv(first.weight, None, first.window) >> second)
    pushed = second.weight.sum((2, 3)) @ first.bias
    border, inner = worst(first >> second, Conv(naive.weight, second.bias + pushed, naive.window), (6, 7))
    assert border > 1e-3
    assert inner <= CEILING


@dims_1_to_3
@groups_grid
@pytest.mark.parametrize("stride", [1, 2])
def test_a_channel_of_ones(dims, groups, stride):
    first, second = pair(dims, groups, stride=stride)
    answer = fold_border(first, second, "ones")
    # One expression for every size.
    assert_same(first >> second, answer, *SIZES[dims])
    assert isinstance(answer, Chain)
    count = torch.gcd(*map(torch.tensor, groups)).item()
    assert answer.parts[-1].in_channels == 4 + count
    assert answer.parts[-1].groups == count


def test_a_channel_of_ones_after_a_strided_or_cropped_point():
    make = Make(2)
    for axis in (Axis(1, 2), Axis(1, 2, lo=-1), Axis(1, 3, lo=-2)):
        first, second = make.conv(2, 3, (axis,)), make.conv(3, 2, (Axis(3, 1, 1, 1, 1),))
        assert_same(first >> second, ones_channel(first, second), (9,), (10,), (11,), (12,))


@pytest.mark.parametrize(
    "window", [(Axis(3, lo=1, hi=1),), (Axis(1, lo=1),), (Axis(1, lo=-1),), (Axis(1, hi=-1),)], ids=str
)
def test_a_channel_of_ones_is_refused_where_it_would_be_wrong(window):
    make = Make(3)
    with pytest.raises(NotFoldable, match=r"more than one tap, or padding\. Use a bias map"):
        ones_channel(make.conv(2, 3, window), make.conv(3, 2, (Axis(3, lo=1, hi=1),)))


@dims_1_to_3
@groups_grid
@pytest.mark.parametrize("stride", [1, 2])
def test_a_bias_map(dims, groups, stride):
    first, second = pair(dims, groups, stride=stride)
    for size in SIZES[dims]:
        answer = fold_border(first, second, "map", size)
        assert_same(first >> second, answer, size)
        assert isinstance(answer, Chain)
        assert isinstance(answer.parts[-1], Affine)


def test_a_bias_map_also_after_a_strided_first_convolution():
    make = Make(4)
    first, second = make.conv(2, 3, (Axis(1, 2), Axis(3, 1, 1, 2, 2))), make.conv(3, 2, padded(2))
    for size in ((6, 5), (7, 4)):
        assert_same(first >> second, bias_map(first, second, size), size)


def test_a_bias_map_is_no_constant_bias():
    first, second = pair(2, (1, 1))
    answer = fold_border(first, second, "map", (5, 6))
    shift = Affine(None, torch.ones(4, 5, 6, dtype=torch.float64), 2)
    for expression in (answer, answer >> Make(1).affine(4, 2), shift >> first, Make(1).affine(4, 2) >> shift):
        with pytest.raises(NotFoldable, match="a bias map is not a constant bias"):
            kernel(expression)
    # Four channels on a map four wide: broadcast as a vector, this would be silently wrong.
    square = Affine(None, torch.ones(4, 4, 4, dtype=torch.float64), 2)
    with pytest.raises(NotFoldable, match="a bias map"):
        kernel(Make(2).affine(4, 2) >> square)


@dims_1_to_3
@pytest.mark.parametrize("border", ["refuse", "ones", "map"])
def test_where_the_bias_is_constant_every_answer_is_one_convolution(dims, border):
    make = Make(5)
    size = SIZES[dims][0]
    cases = [
        (make.conv(2, 4, point(dims), bias=False), make.conv(4, 2, padded(dims))),
        (make.conv(2, 4, point(dims)), make.conv(4, 2, conv_window(dims, 2))),
        (make.conv(2, 4, point(dims)), make.conv(4, 2, make.same(dims), mode="circular")),
    ]
    for first, second in cases:
        answer = fold_border(first, second, border, size)
        assert isinstance(answer, Conv)
        assert_same(first >> second, answer, size)


@dims_1_to_3
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_padding_first_pads_with_the_value(dims, bias, groups):
    make = Make(6)
    conv = make.conv(4, 6, point(dims), groups, bias)
    pads = ((1, 2), (0, 1), (2, 0))[:dims]
    padded_conv = pad_first(conv, pads)
    value = torch.zeros(6, dtype=torch.float64) if conv.bias is None else conv.bias
    assert_same(conv >> Pad(6, pads, value=value), padded_conv, *SIZES[dims])
    # The kernel reading finds it by itself, through a convolution after it.
    assert_kernel(conv >> Pad(6, pads, value=value) >> make.conv(6, 4, conv_window(dims, 2)), *SIZES[dims])


@pytest.mark.parametrize(
    ("axis", "pads"),
    [
        (Axis(1, 2), (1, 1)),
        (Axis(3, 1, 1, 2, 2), (1, 2)),
        (Axis(1, 1, 1, 1, 1), (-1, 2)),
        (Axis(3, 1, 1, 1, 1), (-1, -1)),
        (Axis(1, 2, 1, -1), (1, 0)),
    ],
    ids=str,
)
def test_padding_first_where_the_response_is_zero_outside(axis, pads):
    make = Make(7)
    conv = make.conv(2, 3, (axis,))
    for n in (7, 8, 9, 10):
        assert_same(conv >> Pad(3, (pads,), value=conv.bias), pad_first(conv, (pads,)), (n,))


@pytest.mark.parametrize(
    ("axis", "pads", "mode"),
    [
        (Axis(3, 1, 1, 1, 1), (1, 1), "zeros"),
        (Axis(1, lo=-1), (1, 0), "zeros"),
        (Axis(1, hi=-1), (0, 1), "zeros"),
        (Axis(1, lo=1, hi=1), (1, 1), "circular"),
    ],
    ids=str,
)
def test_padding_first_is_refused_where_the_response_is_not_zero(axis, pads, mode):
    conv = Make(8).conv(2, 3, (axis,), mode=mode)
    with pytest.raises(NotFoldable, match="response is not zero"):
        pad_first(conv, (pads,))
    with pytest.raises(NotFoldable):
        kernel(conv >> Pad(3, (pads,), value=conv.bias))


def test_padding_first_drops_a_mode_that_had_no_effect():
    conv = Make(9).conv(2, 3, (Axis(1),), mode="circular")
    assert pad_first(conv, ((1, 1),)).padding_mode == "zeros"
    assert_same(conv >> Pad(3, ((1, 1),), value=conv.bias), pad_first(conv, ((1, 1),)), (5,))


def test_another_value_is_refused():
    make = Make(10)
    conv = make.conv(2, 3, point(1))
    with pytest.raises(NotFoldable, match="not constant at the border"):
        kernel(conv >> Pad(3, ((1, 1),), value=make.tensor(3)))
    with pytest.raises(NotFoldable, match="padding with a value that is not the response"):
        kernel(Concat((Pad(3, ((1, 1),), value=make.tensor(3)),)))
