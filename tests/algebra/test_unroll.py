"""A8: a convolution on maps of one size is a fully connected layer; Flat, its laws and readings; grouped Linear."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import nn

import convfold
from convfold.algebra import (
    Affine,
    AvgPool,
    Concat,
    Conv,
    Flat,
    Identity,
    Pad,
    Select,
    apply,
    dense,
    frozen,
    kernel,
    leaves,
    magnitude,
    op,
    tensors,
    text,
)
from convfold.algebra.grouped import GroupedLinear
from convfold.algebra.laws.unroll import repeat, unroll
from convfold.algebra.readings.length import path_length
from convfold.algebra.readings.module import fold_module
from convfold.errors import InvalidArgument
from convfold.geometry import Axis, out_size
from support.make import Make, randomise
from support.oracle import CEILING, assert_kernel, assert_same

SIZES = {1: (7,), 2: (5, 4), 3: (3, 4, 2)}
WINDOWS = {
    "one tap": (Axis(), Axis(), Axis()),
    "same": (Axis(3, 1, 1, 1, 1), Axis(3, 1, 1, 1, 1), Axis(2, 1, 1, 1, 0)),
    "strided": (Axis(3, 2, 1, 1, 1), Axis(2, 1, 1, 0, 0), Axis(2, 2, 1, 0, 0)),
    "dilated, uneven": (Axis(3, 1, 2, 2, 1), Axis(2, 2, 3, 0, 2), Axis(2, 1, 1, 1, 1)),
    "a crop": (Axis(2, 1, 1, -1, 1), Axis(1, 1, 1, 0, -1), Axis()),
}


def flat(inner, size):
    """`inner` as a fully connected layer on maps of `size`."""
    with torch.no_grad():
        out = apply(inner, torch.zeros(1, inner.in_channels, *size, dtype=torch.float64)).shape[2:]
    return Flat(inner, size, tuple(out))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_unroll_is_the_matrix_of_the_convolution(dims, groups, window):
    make, size = Make(groups), SIZES[dims]
    for outputs, bias in ((4, True), (8, False)):
        conv = make.conv(4, outputs, WINDOWS[window][:dims], groups, bias)
        linear = unroll(conv, size)
        expected, shift = dense(conv, size)
        got, its_shift = dense(linear, ())
        assert got.shape == expected.shape
        assert (got - expected).abs().max() <= CEILING
        assert (its_shift - shift).abs().max() <= CEILING
        # Groups stay: the blocks off the diagonal are not stored.
        positions = math.prod(size)
        assert (linear.window, linear.groups) == ((), groups)
        outs = math.prod(out_size(conv.window, size))
        assert linear.weight.shape == (outputs * outs, 4 // groups * positions)
        assert (linear.bias is None) == (not bias)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("groups", [1, 3])
def test_unroll_under_every_padding_mode(groups, mode):
    make = Make(1)
    window = (Axis(3, 1, 1, 1, 2), Axis(2, 2, 1, 1, 0))
    conv = make.conv(3, 6, window, groups, mode=mode)
    linear = unroll(conv, (4, 5))
    assert_same(flat(conv, (4, 5)), linear, ())
    assert torch.equal(dense(flat(conv, (4, 5)), ())[0], dense(conv, (4, 5))[0])


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("size", [(5,), (3, 4), (2, 3, 2)])
def test_repeat_gives_each_feature_its_channels_values(size, scale):
    make = Make(2)
    affine = make.affine(3, len(size), scale)
    assert_same(flat(affine, size), repeat(affine, size), ())
    bare = Affine(make.tensor(3), None, len(size))
    assert_same(flat(bare, size), repeat(bare, size), ())
    a, b = dense(repeat(affine, size), ())
    expected, shift = dense(affine, size)
    assert torch.equal(b, shift)
    assert (a - expected).abs().max() <= CEILING
    spread = Affine(make.tensor(3) if scale else None, make.tensor(3, *size), len(size))
    assert torch.equal(repeat(spread, size).shift, spread.shift.flatten())
    assert_same(flat(spread, size), repeat(spread, size), ())


def test_flat_expressions_have_one_kernel():
    make, size = Make(3), (4, 3)
    same = make.same(2)
    for inner in (
        make.conv(4, 4, same, 4, False) >> make.norm(4, 2),
        make.norm(4, 2),
        make.conv(4, 6, same, 2) >> make.conv(6, 4, (Axis(), Axis())),
        make.conv(4, 4, same) + Identity(4, 2) + AvgPool(4, same),
        Concat((make.conv(4, 2, same), Select((3, 0), 4, 2))),
        Pad(4, ((1, -1), (0, 2))),
    ):
        reduced = assert_kernel(flat(inner, size), ())
        assert reduced.window == ()
        # Before, between and beside fully connected layers.
        outer = flat(inner, size)
        assert_kernel(make.conv(5, 48, ()) >> outer, ())
        assert_kernel(outer >> make.conv(outer.out_channels, 6, ()), ())
        assert_kernel(outer + make.conv(48, outer.out_channels, ()), ())


def test_depthwise_parts_keep_the_groups_of_a_sum():
    make, size = Make(4), (3, 5)
    linear = make.conv(4 * 15, 4 * 15, (), 4, False)
    part = flat(make.conv(4, 4, make.same(2), 4, False) >> make.norm(4, 2), size)
    assert assert_kernel((linear >> flat(make.norm(4, 2), size)) + part, ()).groups == 4


def test_gradients_of_both_readings_agree():
    make, size = Make(5), (4, 3)
    conv, norm, linear = make.conv(4, 4, make.same(2), 2), make.norm(4, 2), make.conv(48, 48, (), 2)
    parts = [conv.weight, conv.bias, *norm.module.parameters(), linear.weight, linear.bias]
    for part in parts:
        part.requires_grad_()
    expression = (linear >> flat(norm, size)) + flat(conv >> norm, size)
    x, weights = make.tensor(3, 48).requires_grad_(), make.tensor(3, 48)
    found = []
    for form in (expression, kernel(expression)):
        found.append(torch.autograd.grad((apply(form, x) * weights).sum(), [x, *parts]))
    for a, b in zip(*found, strict=True):
        assert a.abs().max() > 0
        assert (a - b).abs().max() <= 1e-10 * max(1.0, a.abs().max().item())


def test_readings_look_into_flat():
    make, size = Make(6), (3, 4)
    inner = make.conv(2, 2, make.same(2), 2) >> make.norm(2, 2)
    whole = flat(inner, size)
    assert text(whole) == text(inner) == "BN(depthwise3x3(x))"
    assert path_length(whole) == path_length(inner) == 9 + 1 + 5
    assert [type(leaf) for leaf in leaves(whole)] == [type(part) for part in inner.parts]
    assert [t is u for t, u in zip(tensors(whole), tensors(inner), strict=True)] == [True] * 6
    assert (whole.dims, whole.in_channels, whole.out_channels) == (0, 24, 24)
    single = frozen(whole, torch.float32)
    assert isinstance(single, Flat)
    assert {t.dtype for t in tensors(single)} == {torch.float32}
    x = make.tensor(5, 24)
    assert (apply(single, x.float()).double() - apply(whole, x)).abs().max() < 1e-2
    scale = apply(magnitude(whole), x.abs())
    assert bool((apply(whole, x).abs() <= scale * (1 + 1e-12)).all())
    # Leading axes are a batch, whatever their number.
    assert torch.equal(apply(whole, x), apply(inner, x.reshape(5, 2, *size)).flatten(1))
    assert torch.equal(apply(whole, x.reshape(5, 1, 24)), apply(whole, x).reshape(5, 1, 24))
    assert (apply(whole, x[0]) - apply(whole, x)[0]).abs().max() <= CEILING


def test_flat_refuses_sizes_for_another_number_of_axes():
    conv = Make(7).conv(2, 2, Make(7).same(2))
    for size, out in (((3,), (3, 3)), ((3, 3), (3,)), ((), ())):
        with pytest.raises(
            InvalidArgument, match=r"Flat has sizes for another number of axes: got \(.*\) -> .*expected 2"
        ):
            Flat(conv, size, out)


@pytest.mark.parametrize("bias", [True, False])
def test_grouped_linear_is_block_diagonal(bias):
    layer = randomise(GroupedLinear(6, 9, 3, bias, dtype=torch.float64), torch.Generator().manual_seed(1))
    whole = torch.zeros(9, 6, dtype=torch.float64)
    for g in range(3):
        whole[3 * g : 3 * g + 3, 2 * g : 2 * g + 2] = layer.weight.detach()[3 * g : 3 * g + 3]
    for shape in ((4, 6), (2, 3, 6), (6,)):
        x = torch.randn(shape, dtype=torch.float64)
        expected = x @ whole.T + (layer.bias if bias else 0)
        assert (layer(x) - expected).abs().max() <= CEILING
    assert torch.equal(dense(op(layer), ())[1], layer.bias if bias else torch.zeros(9, dtype=torch.float64))
    folded = fold_module(layer)
    assert type(folded) is GroupedLinear
    assert torch.equal(folded.weight, layer.weight)
    assert repr(folded) == f"GroupedLinear(6, 9, groups=3, bias={bias})"
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin.weight, layer.weight)


def test_grouped_linear_starts_as_linear_layers_do():
    torch.manual_seed(0)
    layer = GroupedLinear(64, 64, 4)
    bound = 16**-0.5
    assert 0.95 * bound < layer.weight.abs().max() <= bound
    assert 0.5 * bound < layer.bias.abs().max() <= bound


def test_grouped_linear_layers_fold_into_one():
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = GroupedLinear(8, 12, 4), GroupedLinear(12, 4, 2)

        def op(self):
            return self.first.op() >> self.second.op()

        def forward(self, x):
            return self.second(self.first(x))

    module = randomise(Pair().double(), torch.Generator().manual_seed(2))
    x = torch.randn(3, 8, dtype=torch.float64)
    folded = convfold.fold(module, x)
    assert (type(folded), folded.groups) == (GroupedLinear, 2)
    assert (folded(x) - module(x)).abs().max() <= CEILING


def test_the_stated_memory_cost():
    """3x3 on 64 dense channels of 14 x 14: 157 million numbers where the kernel has 37 thousand."""
    with torch.device("meta"):
        conv = Conv(torch.empty(64, 64, 3, 3), None, (Axis(3, lo=1, hi=1),) * 2)
        linear = unroll(conv, (14, 14))
    assert conv.weight.numel() == 36_864
    assert linear.weight.numel() == 157_351_936
