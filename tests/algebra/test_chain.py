"""A5: one convolution after another, with strides, dilations and groups, both orders, one to three dimensions."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convfold.algebra import compose, kernel
from convfold.errors import NotFoldable
from convfold.geometry import Axis, conv_window, point, reads_past_border
from support.make import Make
from support.oracle import assert_kernel, assert_same
from support.strategies import fits, windows

SIZES = {0: [()], 1: [(13,), (16,)], 2: [(9, 8), (11, 10)], 3: [(8, 4, 5)]}
# (first, second) groups on 4 -> 12 -> 6 channels, 12 being the middle; the last splits on both sides.
GROUPS = [(1, 1), (1, 6), (4, 1), (2, 2), (2, 6), (4, 2), (4, 6)]


def window(dims, *kernels, **fields):
    """An anisotropic window: axis a takes entry a of each field, the last where there are fewer."""
    rows = {"kernel": kernels, **{k: v if isinstance(v, tuple) else (v,) for k, v in fields.items()}}
    return tuple(Axis(**{k: v[min(a, len(v) - 1)] for k, v in rows.items()}) for a in range(dims))


SHAPES = {
    "1x1 then KxK": lambda d: (point(d), window(d, 3, 2, 3, lo=(1, 0), hi=(1, 1, 0))),
    "KxK then 1x1": lambda d: (window(d, 3, 2, 3, lo=(1, 0), hi=(1, 1, 0)), point(d)),
    "KxK then KxK": lambda d: (window(d, 3, 2, 1, lo=(2, 0, 1), hi=(1, 3, 0)), window(d, 3, 1, 2)),
    "strided then KxK": lambda d: (window(d, 2, 3, stride=(2, 1), lo=1), window(d, 2, 3, 1)),
    "KxK then strided": lambda d: (window(d, 2, 3, lo=1, hi=1), window(d, 3, 2, stride=(2, 3))),
    "both strided and dilated": lambda d: (
        window(d, 3, 2, stride=(2, 1), dilation=(1, 3), lo=1, hi=1),
        window(d, 2, 1, 2, stride=(1, 2), dilation=(3, 1)),
    ),
    "dilations on one lattice": lambda d: (window(d, 2, dilation=2, lo=2, hi=2), window(d, 3, 2, 2, dilation=2)),
    "one tap, strided and cropped, then padding": lambda d: (
        window(d, 1, stride=2, lo=-1),
        window(d, 2, 3, 2, lo=1, hi=0),
    ),
    "full padding, then padding": lambda d: (window(d, 2, 3, 2, lo=(1, 2), hi=(1, 2, 1)), window(d, 3, 2, lo=1, hi=1)),
}
SHAPES_3D = ["KxK then KxK", "both strided and dilated", "1x1 then KxK"]


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dims", [1, 2])
def test_a_chain_of_two(dims, shape, groups):
    make = Make(1)
    first, second = SHAPES[shape](dims)
    two = make.conv(12, 6, second, groups[1])
    one = make.conv(4, 12, first, groups[0], bias=not any(a.lo > 0 or a.hi > 0 for a in second))
    reduced = assert_kernel(one >> two, *SIZES[dims])
    assert reduced.groups == torch.gcd(*map(torch.tensor, groups)).item()


@pytest.mark.parametrize("groups", [(4, 6), (2, 6), (4, 2)], ids=str)
@pytest.mark.parametrize("shape", SHAPES_3D)
def test_a_chain_of_two_in_three_dimensions(shape, groups):
    first, second = SHAPES[shape](3)
    make = Make(2)
    padded = any(a.lo > 0 or a.hi > 0 for a in second)
    one, two = make.conv(4, 12, first, groups[0], bias=not padded), make.conv(12, 6, second, groups[1])
    assert_kernel(one >> two, *SIZES[3])


@pytest.mark.parametrize("groups", GROUPS, ids=str)
def test_a_chain_of_fully_connected_layers(groups):
    make = Make(3)
    one, two = make.conv(4, 12, (), groups[0]), make.conv(12, 6, (), groups[1])
    assert_kernel(one >> two, ())
    assert_kernel(one >> make.norm(12, 0) >> two >> make.norm(6, 0), ())


@pytest.mark.parametrize(("bias1", "bias2"), list(product([False, True], repeat=2)))
@pytest.mark.parametrize("shape", ["1x1 then KxK", "KxK then KxK", "KxK then 1x1"])
def test_the_four_bias_combinations(shape, bias1, bias2):
    first, second = SHAPES[shape](2)
    second = tuple(Axis(a.kernel, a.stride, a.dilation) for a in second)
    make = Make(4)
    reduced = assert_kernel(make.conv(4, 6, first, 2, bias1) >> make.conv(6, 4, second, 2, bias2), *SIZES[2])
    assert (reduced.bias is not None) == (bias1 or bias2)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_padding_modes_through_a_chain(mode):
    make = Make(5)
    padded = conv_window(2, 3, 1, 1)
    first = make.conv(4, 6, padded, mode=mode)
    assert assert_kernel(first >> make.conv(6, 4, conv_window(2, 2, 2)), (6, 7), (8, 5)).padding_mode == mode
    second = make.conv(6, 4, padded, 2, mode=mode)
    assert assert_kernel(make.conv(4, 6, point(2)) >> second, (6, 7), (4, 5)).padding_mode == mode
    if mode == "circular":
        assert_kernel(first >> make.conv(6, 4, conv_window(2, 3, 2, 1), 2, mode=mode), (6, 7), (5, 4))
    else:
        with pytest.raises(NotFoldable, match=f"{mode} padding between two convolutions does not commute"):
            kernel(first >> second)


def test_two_3x3_are_one_5x5_and_a_third_makes_7x7():
    make = Make(6)
    convs = [make.conv(3, 3, point(2)), *(make.conv(3, 3, conv_window(2, 3)) for _ in range(3))]
    assert kernel(convs[1] >> convs[2]).weight.shape == (3, 3, 5, 5)
    reduced = assert_kernel(convs[0] >> convs[1] >> convs[2] >> convs[3], (8, 9))
    assert reduced.weight.shape == (3, 3, 7, 7)


def test_composition_is_associative():
    make = Make(7)
    a = make.conv(4, 6, window(2, 3, 2, stride=(2, 1), lo=1), 2)
    b = make.conv(6, 4, window(2, 2, 3, dilation=(1, 2)), 2)
    c = make.conv(4, 2, window(2, 1, 2, stride=(1, 2)), 2)
    left, right = compose(compose(a, b), c), compose(a, compose(b, c))
    assert left.window == right.window
    assert_same(left, right, (12, 13))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_any_two_windows(dims):
    @settings(max_examples=settings().max_examples // dims)
    @given(windows(dims), windows(dims), st.integers(0, 999), st.booleans())
    def run(first, second, seed, bias):
        make = Make(seed)
        # Three dimensions are for the order of the axes: one channel will do.
        one, two = (make.conv(2, 4, first, 2, bias), make.conv(4, 2, second, 2, bias))
        if dims == 3:
            one, two = make.conv(1, 2, first, 1, bias), make.conv(2, 1, second, 1, bias)
        size = {1: (12,), 2: (11, 9), 3: (6, 5, 7)}[dims]
        fits(one >> two, size)
        harmless = not any(a.lo > 0 or a.hi > 0 for a in second)
        if harmless or not (bias or reads_past_border(first, second)):
            assert_same(one >> two, compose(one, two), size)
        else:
            with pytest.raises(NotFoldable, match=r"border|response is not zero"):
                compose(one, two)

    run()


def test_a_wide_depthwise_kernel_is_never_made_dense():
    """A depthwise 31x31 after a scale, a selection of blocks and a depthwise 3x3 keeps one column per row."""
    make = Make(8)
    wide = make.conv(8, 8, conv_window(2, 31, 1, 15), 8)
    small = make.conv(8, 8, conv_window(2, 3), 8)
    assert kernel(make.norm(8, 2) >> small >> make.norm(8, 2)).weight.shape == (8, 1, 3, 3)
    assert kernel(make.affine(8, 2, shift=False) >> wide >> small).weight.shape == (8, 1, 33, 33)
    assert kernel(wide + make.conv(8, 8, conv_window(2, 3, 1, 1), 8)).weight.shape == (8, 1, 31, 31)
