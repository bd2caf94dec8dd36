"""Faults met in public implementations that concern the laws, one named test each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convfold.algebra import AvgPool, Chain, Concat, Conv, Identity, Norm, apply, compose, frozen, kernel, op, sum_of
from convfold.algebra.readings.module import fold_module
from convfold.errors import NotFoldable
from convfold.geometry import Axis, conv_window, embed, point
from support.make import Make, randomise
from support.oracle import assert_kernel, assert_same, worst


def test_pitfall_01_a_norm_in_training_mode_raises_and_a_frozen_one_folds():
    make = Make(1)
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)).double()
    randomise(model, make.generator).train()
    with pytest.raises(NotFoldable, match="training mode"):
        kernel(op(model))
    model[1].eval()
    assert model.training
    assert_kernel(op(model), (4, 5))
    running = kernel(op(model.train()), running=True)
    assert_same(op(model.eval()), running, (4, 5))


def test_pitfall_02_zero_padding_after_a_bias_ring_and_interior_apart():
    make = Make(2)
    first, second = make.conv(3, 4, point(2)), make.conv(4, 2, make.same(2))
    with pytest.raises(NotFoldable, match="border"):
        kernel(first >> second)
    merged = compose(Conv(first.weight, None, first.window), Conv(second.weight, None, second.window))
    bias = second.bias + torch.einsum("omhw,m->o", second.weight, first.bias)
    border, inner = worst(first >> second, Conv(merged.weight, bias, merged.window), (6, 7))
    assert border > 1e-2
    assert inner < 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_pitfall_14_a_fold_in_half_is_the_float64_fold_cast_once(dtype):
    """Nothing is rounded on the way: an identity, a pooling and a norm in half give the cast of the exact kernel."""
    make = Make(3)

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm, self.skip = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

        def op(self):
            pooled = AvgPool(3, make.same(2)) >> Norm(self.skip, 2)
            return (op(self.conv) >> Norm(self.norm, 2)) + pooled + Identity(3, 2)

    block = randomise(Block(), make.generator).eval().to(dtype)
    exact = kernel(frozen(block.op(), torch.float64))
    assert exact.weight.dtype == torch.float64
    folded = fold_module(block)
    assert torch.equal(folded.weight, exact.weight.to(dtype))
    assert torch.equal(folded.bias, exact.bias.to(dtype))


def test_pitfall_14_an_identity_in_float64_is_built_in_float64():
    make = Make(4)
    reduced = assert_kernel(make.conv(3, 3, make.same(2)) + Identity(3, 2) + AvgPool(3, make.same(2)), (4, 5))
    assert reduced.weight.dtype == torch.float64


NORMS = {
    "affine=False": lambda: nn.BatchNorm2d(3, affine=False),
    "bias=False": lambda: nn.BatchNorm2d(3, bias=False),
    "momentum=None": lambda: nn.BatchNorm2d(3, momentum=None),
    "eps=0.3": lambda: nn.BatchNorm2d(3, eps=0.3),
    "eps=0": lambda: nn.BatchNorm2d(3, eps=0.0),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(3),
}


@pytest.mark.parametrize("kind", NORMS)
def test_pitfall_15_every_kind_of_batch_normalisation(kind):
    make = Make(5)
    norm = randomise(NORMS[kind]().double(), make.generator).eval()
    if kind == "SyncBatchNorm":
        # Its own forward needs a process group to train, not to be evaluated; its dims come from before it.
        with pytest.raises(NotFoldable, match="its channels are not known"):
            op(norm)
    expression = make.conv(2, 3, make.same(2)) >> op(norm, dims=2)
    assert_kernel(expression, (4, 5))


def test_pitfall_15_absent_statistics_are_named():
    for module in (nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3, track_running_stats=False).eval()):
        with pytest.raises(NotFoldable, match=r"no running statistics|training mode"):
            kernel(op(module))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_pitfall_16_all_four_bias_combinations_in_every_transform(first, second):
    make = Make(6)
    window = conv_window(2, (3, 2))
    one, two = make.conv(4, 6, window, 2, first), make.conv(6, 4, window, 2, second)
    assert (assert_kernel(one >> two, (6, 7)).bias is not None) == (first or second)
    pair = make.conv(4, 6, window, 1, first), make.conv(4, 6, window, 2, second)
    assert_kernel(sum_of(*pair), (4, 5))
    assert_kernel(Concat(pair), (4, 5))
    assert_kernel(one >> make.affine(6, 2, True, second), (4, 5))
    assert_kernel(make.affine(4, 2, True, second) >> one, (4, 5))
    up = make.transposed(6, 4, (Axis(3, 2, 1, 1, 0),) * 2, 2, second)
    assert_kernel(up >> make.conv(4, 2, point(2), 2, first), (3, 4))


@pytest.mark.parametrize(("inner", "outer"), [((1, 3), (3, 5)), ((3, 1), (5, 3)), ((1, 3), (3, 3)), ((2, 3), (5, 4))])
def test_pitfall_17_height_and_width_are_not_swapped(inner, outer):
    make = Make(7)
    window = conv_window(2, outer, 1, "same")
    small = tuple(embed(axis, k) for axis, k in zip(window, inner, strict=True))
    reduced = assert_kernel(make.conv(2, 2, window) + make.conv(2, 2, small), (6, 7))
    assert reduced.weight.shape[2:] == outer


def test_pitfall_18_kernels_compose_without_a_flip():
    """By hand: two taps after two taps, none symmetric."""
    one = Conv(torch.tensor([[[1.0, 10.0]]]), None, (Axis(2),))
    two = Conv(torch.tensor([[[2.0, 300.0]]]), None, (Axis(2),))
    assert kernel(one >> two).weight.tolist() == [[[2.0, 320.0, 3000.0]]]
    make = Make(8)
    assert_kernel(make.conv(2, 3, conv_window(2, 3, 1, 1)) >> make.conv(3, 2, conv_window(2, (3, 2))), (6, 7))


@pytest.mark.parametrize(
    ("inputs", "middle", "outputs", "groups"),
    [(4, 4, 6, (2, 2)), (4, 8, 8, (4, 8)), (4, 8, 4, (4, 4)), (6, 12, 4, (6, 2)), (4, 12, 6, (4, 6))],
)
def test_pitfall_19_grouped_composition_keeps_blocks_together(inputs, middle, outputs, groups):
    make = Make(9)
    one = make.conv(inputs, middle, point(2), groups[0])
    two = make.conv(middle, outputs, conv_window(2, 3), groups[1])
    assert_kernel(one >> two, (5, 4))


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("dims", [1, 2])
def test_pitfall_23_a_1x1_sits_in_the_middle_of_any_kernel(kernel_size, dims):
    make = Make(10)
    large = make.conv(2, 2, make.same(dims, kernel_size))
    single = make.conv(2, 2, point(dims))
    reduced = assert_kernel(large + single, (8, 7)[:dims])
    difference = (reduced.weight - large.weight).reshape(4, -1)
    middle = difference.shape[1] // 2
    assert torch.equal(difference.abs().amax(0).nonzero().flatten(), torch.tensor([middle]))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_pitfall_24_an_identity_beside_a_dense_kernel_is_diagonal(groups):
    make = Make(11)
    conv = make.conv(4, 4, make.same(2), groups)
    reduced = assert_kernel(conv + Identity(4, 2), (4, 5))
    assert reduced.weight.shape == conv.weight.shape
    added = (reduced.weight - conv.weight)[:, :, 1, 1]
    expected = torch.eye(4 // groups, dtype=torch.float64).repeat(groups, 1)
    assert (added - expected).abs().max() < 1e-12


def test_pitfall_25_every_branch_is_summed():
    make = Make(12)
    for large in range(4):
        terms = [make.conv(3, 3, make.same(2)) >> make.norm(3, 2) for _ in range(3)] + [make.norm(3, 2)]
        terms[large] = 1e4 * terms[large]
        assert_kernel(sum_of(*terms), (4, 5))


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(4, 6, 1), (6, 4, 2), (4, 8, 4), (4, 4, 4)])
def test_pitfall_32_the_scale_after_a_transposed_convolution_is_on_outputs(inputs, outputs, groups):
    make = Make(13)
    conv = make.transposed(inputs, outputs, (Axis(3, 2, 1, 1, 0), Axis(2, 1, 1, 0, 0)), groups)
    assert assert_kernel(conv >> make.norm(outputs, 2), (3, 4)).groups == groups


def test_pitfall_33_a_bias_before_a_transposed_convolution_is_refused():
    make = Make(14)
    up = make.transposed(2, 2, (Axis(3, 2, 1, 1, 0),) * 2, bias=False)
    with pytest.raises(NotFoldable, match="no constant bias"):
        kernel(make.affine(2, 2, scale=False) >> up)
    constant = apply(up, torch.ones(1, 2, 6, 6, dtype=torch.float64))[0, 0, 2:-3, 2:-3]
    assert len({round(v, 9) for v in constant.flatten().tolist()}) == 4


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_pitfall_35_pooling_is_a_constant_depthwise_kernel_in_its_mode_and_dilation(mode, dilation):
    window = (Axis(3, 1, dilation, dilation, dilation),) * 2
    pool = AvgPool(3, window, mode)
    constant = Conv(torch.full((3, 1, 3, 3), 1 / 9, dtype=torch.float64), None, window, 3, mode)
    assert_same(pool, constant, (5, 6))
    assert assert_kernel(pool, (5, 6)).padding_mode == mode


def test_pitfall_37_a_layer_scale_is_not_lost():
    make = Make(15)
    branch = make.conv(4, 4, make.same(2), 4) >> make.norm(4, 2) >> make.affine(4, 2, shift=False)
    expression = Identity(4, 2) + branch
    assert isinstance(expression.terms[1], Chain)
    assert_kernel(expression, (4, 5))
