"""A7: transposed convolutions: what stands after and before them, their sums, and the bias that is refused."""

from __future__ import annotations

import pytest
import torch

from convfold.algebra import AvgPool, Concat, ConvTranspose, Identity, Pad, Select, apply, kernel
from convfold.errors import NotFoldable
from convfold.geometry import Axis, conv_window, point
from support.make import Make
from support.oracle import assert_kernel

SIZES = {1: [(4,), (5,)], 2: [(3, 4), (2, 3)], 3: [(2, 3, 2)]}
WINDOWS = {
    "output padding": (Axis(3, 2, 1, 1, 0), Axis(3, 2, 1, 1, 0), Axis(2, 2)),
    "anisotropic": (Axis(2, 2), Axis(3, 1, 2, 1, 1), Axis(1, 2)),
    "output padding beyond the taps": (Axis(2, 3, 1, 0, -1), Axis(1, 2, 1, 0, -1), Axis(1)),
}
# in -> out channels, groups: dense, grouped, depthwise, depthwise with a multiplier, in > out.
CHANNELS = [(4, 6, 1), (4, 6, 2), (4, 4, 4), (4, 8, 4), (8, 4, 4)]
grid = pytest.mark.parametrize("channels", CHANNELS, ids=str)
dims_1_to_3 = pytest.mark.parametrize("dims", [1, 2, 3])
shapes = pytest.mark.parametrize("shape", WINDOWS)


@grid
@shapes
@dims_1_to_3
def test_a_normalisation_after(dims, shape, channels):
    inputs, outputs, groups = channels
    make = Make(1)
    for bias in (True, False):
        conv = make.transposed(inputs, outputs, WINDOWS[shape][:dims], groups, bias)
        reduced = assert_kernel(conv >> make.norm(outputs, dims), *SIZES[dims])
        assert (reduced.groups, reduced.window) == (groups, conv.window)
        assert_kernel(2.5 * conv, *SIZES[dims])


@grid
@shapes
@dims_1_to_3
@pytest.mark.parametrize("other", [1, 2, 4])
def test_a_1x1_after_and_before(dims, shape, channels, other):
    inputs, outputs, groups = channels
    make = Make(2)
    conv = make.transposed(inputs, outputs, WINDOWS[shape][:dims], groups)
    if outputs % other == 0:
        after = make.conv(outputs, 4, point(dims), other)
        assert isinstance(assert_kernel(conv >> after >> make.norm(4, dims), *SIZES[dims]), ConvTranspose)
    before = make.conv(4, inputs, point(dims), other, bias=False)
    assert_kernel(make.affine(4, dims, shift=False) >> before >> conv, *SIZES[dims])


@dims_1_to_3
@shapes
def test_sums_of_transposed_convolutions(dims, shape):
    make, window = Make(3), WINDOWS[shape][:dims]
    first, second = make.transposed(4, 8, window, 4), make.transposed(4, 8, window, 2, bias=False)
    assert assert_kernel(first + second, *SIZES[dims]).groups == 2
    # A smaller kernel inside the larger one.
    large = (Axis(4, 2, 1, 1, 1),) * dims
    small = (Axis(2, 2, 1, 0, 0),) * dims
    assert_kernel(make.transposed(4, 6, large) + make.transposed(4, 6, small), *SIZES[dims])


def test_a_bias_before_is_refused_with_the_reason():
    make = Make(4)
    conv = make.transposed(4, 6, (Axis(3, 2, 1, 1, 0),) * 2)
    for before in (make.conv(4, 4, point(2)), make.norm(4, 2), make.affine(4, 2, scale=False)):
        with pytest.raises(NotFoldable, match="different outputs through different taps"):
            kernel(before >> conv)


def test_what_no_law_covers_is_refused():
    make = Make(5)
    conv = make.transposed(4, 4, (Axis(2, 2),))
    cases = {
        "only a 1x1 convolution of stride 1 merges": conv >> make.conv(4, 4, conv_window(1, 3)),
        "no law joins it with AvgPool": conv >> AvgPool(4, (Axis(2),)),
        "no law joins it with Select": Select((0, 1, 2, 3), 4, 1) >> conv,
        "no law joins it with Pad": conv >> Pad(4, ((1, 1),)),
        "do not add to one operator": conv + (make.conv(4, 4, point(1)) >> Identity(4, 1)),
        "are not joined": Concat((conv, conv)),
        "no law joins it with ConvTranspose": conv >> conv,
    }
    for reason, expression in cases.items():
        with pytest.raises(NotFoldable, match=reason):
            kernel(expression)


def test_a_constant_before_stride_two_takes_four_values_inside():
    make = Make(6)
    conv = make.transposed(1, 1, (Axis(3, 2, 1, 1, 0),) * 2, bias=False)
    y = apply(conv, torch.ones(1, 1, 6, 6, dtype=torch.float64))[0, 0, 2:-2, 2:-2]
    assert len({round(v, 9) for v in y.flatten().tolist()}) == 4
