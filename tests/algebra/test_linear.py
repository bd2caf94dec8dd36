"""A1, A2 and A8: homogeneity, additivity, batch normalisation before and after, fully connected layers."""

from __future__ import annotations

import pytest
import torch

from convfold.algebra import Affine, Conv, Identity, apply, as_full_map, as_pointwise, dense, kernel, sum_of
from convfold.errors import NotFoldable
from convfold.geometry import Axis, conv_window
from support.make import Make
from support.oracle import assert_kernel, assert_same

SIZES = {0: [()], 1: [(7,), (4,)], 2: [(5, 6), (4, 3)], 3: [(4, 3, 5)]}
WINDOWS = {
    0: [()],
    1: [conv_window(1, 3, 1, 1), conv_window(1, 2, 2), conv_window(1, 3, 1, 2, 2)],
    2: [conv_window(2, (3, 2), (1, 2), 1), conv_window(2, (1, 3), 1, (0, 1)), conv_window(2, 2, 1, "same")],
    3: [conv_window(3, (2, 3, 1), (1, 2, 1), (1, 1, 0))],
}
CASES = [(dims, i) for dims, rows in WINDOWS.items() for i in range(len(rows))]
cases = pytest.mark.parametrize(("dims", "row"), CASES)
biases = pytest.mark.parametrize("bias", [False, True])


@cases
@biases
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_homogeneity(dims, row, bias, groups):
    make = Make(row)
    conv = make.conv(4, 8, WINDOWS[dims][row], groups, bias)
    for factor in (-2.5, 0.0, 3):
        assert_same(factor * conv, kernel(factor * conv), *SIZES[dims])
        reduced = kernel(factor * conv)
        assert torch.equal(reduced.weight, factor * conv.weight)
        assert reduced.groups == groups
    if not bias:
        x = make.tensor(1, 4, *SIZES[dims][0])
        assert (apply(conv, 3 * x) - apply(3 * conv, x)).abs().max() < 1e-12


@cases
def test_additivity(dims, row):
    make = Make(row)
    window = WINDOWS[dims][row]
    terms = [make.conv(4, 8, window, g, b) for g, b in ((1, True), (4, False), (2, True))]
    for count in (1, 2, 3):
        reduced = assert_kernel(sum_of(*terms[:count]), *SIZES[dims])
        assert reduced.window == window
    pair = make.conv(4, 8, window), make.conv(4, 8, window)
    assert torch.equal(kernel(pair[0] + pair[1]).weight, pair[0].weight + pair[1].weight)


@cases
@biases
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_normalisation_after(dims, row, bias, groups):
    make = Make(row)
    conv = make.conv(4, 8, WINDOWS[dims][row], groups, bias)
    reduced = assert_kernel(conv >> make.norm(8, dims), *SIZES[dims])
    assert (reduced.groups, reduced.window) == (groups, conv.window)
    assert_kernel(conv >> make.norm(8, dims, affine=False, eps=0.3), *SIZES[dims])


@cases
@biases
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_normalisation_before(dims, row, bias, groups):
    make = Make(row)
    window = tuple(Axis(a.kernel, a.stride, a.dilation) for a in WINDOWS[dims][row])
    expression = make.norm(4, dims) >> make.conv(4, 8, window, groups, bias)
    assert assert_kernel(expression, *[tuple(n + 3 for n in size) for size in SIZES[dims]]).groups == groups
    padded = make.conv(4, 8, WINDOWS[dims][row], groups, bias)
    assert_kernel(make.affine(4, dims, shift=False) >> padded, *SIZES[dims])
    if any(axis.lo or axis.hi for axis in padded.window):
        with pytest.raises(NotFoldable, match="not constant at the border"):
            kernel(make.norm(4, dims) >> padded)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_normalisation_before_padding_that_is_not_zero(mode):
    make = Make(1)
    conv = make.conv(4, 6, conv_window(2, 3, (2, 1), 1), 2, mode=mode)
    assert assert_kernel(make.norm(4, 2) >> conv, (5, 6), (4, 4)).padding_mode == mode


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_scales_and_shifts_alone(dims):
    make = Make(2)
    pairs = [(s, t) for s in (True, False) for t in (True, False) if s or t]
    for first in pairs:
        for second in pairs:
            chain = make.affine(3, dims, *first) >> make.affine(3, dims, *second)
            assert_kernel(chain, *SIZES[dims])
    assert_kernel(make.norm(3, dims) + Identity(3, dims) + make.affine(3, dims), *SIZES[dims])
    reduced = kernel(make.norm(3, dims))
    assert reduced.groups == 3


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_linear_layer_is_a_pointwise_convolution(dims, groups):
    make = Make(3)
    linear = make.conv(4, 6, (), groups)
    x = make.tensor(2, 4, *SIZES[dims][0])
    expected = apply(linear, x.movedim(1, -1)).movedim(-1, 1)
    assert (apply(as_pointwise(linear, dims), x) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 2)])
def test_a_linear_layer_on_a_map_is_the_full_map_convolution(size):
    make = Make(4)
    count = 3 * torch.Size(size).numel()
    linear = make.conv(count, 4, ())
    conv = as_full_map(linear, 3, size)
    x = make.tensor(2, 3, *size)
    assert (apply(conv, x).flatten(1) - apply(linear, x.flatten(1))).abs().max() < 1e-12
    assert apply(conv, x).shape == (2, 4, *(1,) * len(size))


@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 2)])
def test_a_convolution_is_a_sparse_linear_layer_with_shared_weights(size):
    make = Make(6)
    conv = make.conv(2, 3, conv_window(len(size), 2, 1, "same"), bias=False)
    matrix, shift = dense(conv, size)
    x = make.tensor(2, 2, *size)
    linear = Conv(matrix, shift, ())
    assert (apply(linear, x.flatten(1)) - apply(conv, x).flatten(1)).abs().max() < 1e-12
    assert set(matrix.flatten().tolist()) <= {0.0, *conv.weight.flatten().tolist()}
    assert (matrix == 0).any()


def test_a_scale_keeps_the_precision_of_the_kernel():
    make = Make(5)
    single = Conv(make.tensor(4, 2, 3).float(), make.tensor(4).float(), conv_window(1, 3, 1, 1))
    reduced = kernel(0.1 * single)
    assert reduced.weight.dtype == reduced.bias.dtype == torch.float32
    double = kernel(Affine(make.tensor(2), None, 1) >> make.conv(2, 4, conv_window(1, 3, 1, 1)))
    assert double.weight.dtype == torch.float64
