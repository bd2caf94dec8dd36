"""From modules to expressions and back: `op`, `kernel` of a module, `text`, and what rebuilds an expression."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convfold import algebra
from convfold.algebra import (
    Affine,
    AvgPool,
    Chain,
    Concat,
    Conv,
    Identity,
    Norm,
    Pad,
    Select,
    apply,
    frozen,
    has_hooks,
    has_op,
    leaves,
    magnitude,
    op,
    tensors,
    text,
)
from convfold.algebra.protocol import kernel
from convfold.algebra.readings.length import path_length
from convfold.algebra.readings.module import as_module, fold_module
from convfold.algebra.readings.tensors import to_meta
from convfold.geometry import Axis, conv_window, point
from support.make import Make, randomise
from support.oracle import assert_same


class Own(nn.Module):
    """Anybody's module with an equation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv1d(2, 2, 3, padding=1)

    def op(self):
        return op(self.inner) + Identity(2, 1)


def sequential():
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        nn.Identity(),
        nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(4, 3, 1, bias=False)),
    ).double()
    return randomise(model, Make(1).generator).eval()


def test_a_sequence_of_modules_is_a_chain():
    model, x = sequential(), Make(2).tensor(2, 2, 6, 8)
    assert has_op(model)
    expression = op(model)
    assert [type(part).__name__ for part in expression.parts] == ["Conv", "Norm", "Identity", "AvgPool", "Conv"]
    assert (apply(expression, x) - model(x)).abs().max() < 1e-12
    folded = fold_module(model)
    assert isinstance(folded, nn.Conv2d)
    assert (folded(x) - model(x)).abs().max() < 1e-10


def test_a_linear_layer_and_its_norm_are_in_no_dimension():
    model = randomise(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double(), Make(3).generator)
    model.eval()
    x = Make(4).tensor(5, 3)
    folded = fold_module(model)
    assert isinstance(folded, nn.Linear)
    assert (folded(x) - model(x)).abs().max() < 1e-10


def test_which_modules_have_an_expression():
    for module in (Own(), nn.Identity(), nn.Linear(2, 2), nn.ConvTranspose3d(2, 2, 1), nn.SyncBatchNorm(2)):
        assert has_op(module)
    for module in (nn.ReLU(), nn.Sequential(), nn.Sequential(nn.ReLU()), nn.MaxPool2d(2), nn.LayerNorm(2)):
        assert not has_op(module)
    module = nn.Conv1d(1, 1, 1)
    assert not has_hooks(module)
    module.register_forward_hook(lambda *_: None)
    assert has_hooks(module)


def test_the_kernel_of_a_module_is_differentiable_and_counts_running_statistics():
    model = sequential().train()
    weight, bias = kernel(model)
    assert weight.shape == (3, 2, 4, 4)
    x = Make(5).tensor(1, 2, 6, 8)
    expected = model.eval()(x)
    window = conv_window(2, 4, 2, 1)
    assert (apply(Conv(weight, bias, window), x) - expected).abs().max() < 1e-10
    weight.sum().backward()
    assert all(p.grad is not None for p in (model[0].weight, model[1].weight, model[3][1].weight))
    own = Own()
    own_weight, own_bias = kernel(own)
    assert torch.equal(own_bias, own.inner.bias)
    expected = own.inner.weight + torch.eye(2).unsqueeze(2) * torch.tensor([0.0, 1.0, 0.0])
    assert torch.equal(own_weight, expected)
    assert kernel(nn.Linear(2, 2, bias=False))[1] is None


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_a_convolution_becomes_a_module_and_comes_back(dims):
    make = Make(6)
    cases = [make.conv(4, 6, make.same(dims)), make.conv(4, 6, make.same(dims), bias=False)]
    if dims:
        strided = (Axis(3, 2, 2, 1, 1), Axis(2, 1, 1, 0, 0), Axis(1, 3))[:dims]
        cases += [make.conv(4, 6, strided, 2), make.conv(4, 6, conv_window(dims, 4, 1, "same"), mode="circular")]
        cases.append(make.transposed(4, 6, (Axis(3, 2, 1, 1, 0), Axis(2, 2), Axis(3, 1, 2, 1, 0))[:dims], 2))
    for conv in cases:
        module = as_module(conv)
        again = op(module)
        assert type(again) is type(conv)
        assert (again.window, again.groups) == (conv.window, conv.groups)
        assert_same(conv, again, (5, 4, 4)[:dims])


def test_a_fold_keeps_what_belongs_to_the_module():
    model = sequential().to(memory_format=torch.channels_last).train()
    model[1].eval()
    model.requires_grad_(False)
    folded = fold_module(model)
    assert folded.training
    assert not folded.weight.requires_grad
    assert folded.weight.is_contiguous(memory_format=torch.channels_last)


def test_equations():
    make = Make(7)
    dense, one = make.conv(4, 4, make.same(2)), make.conv(4, 4, point(2))
    assert text(dense >> make.norm(4, 2)) == "BN(conv3x3(x))"
    assert text((dense >> make.norm(4, 2)) + (one >> make.norm(4, 2)) + make.norm(4, 2)) == (
        "BN(conv3x3(x)) + BN(conv1x1(x)) + BN(x)"
    )
    assert text(make.conv(4, 4, make.same(2), 4)) == "depthwise3x3(x)"
    assert text(make.conv(4, 4, make.same(2), 2)) == "grouped3x3(x)"
    assert text(make.conv(4, 4, ())) == "linear(x)"
    assert text(make.transposed(4, 4, (Axis(2),))) == "convT2(x)"
    assert text(AvgPool(4, make.same(1))) == "avg3(x)"
    assert text(make.affine(4, 2)) == "s*x + b"
    assert text(Affine(None, torch.ones(4), 2)) == "x + b"
    assert text((dense + one) >> make.affine(4, 2, shift=False)) == "s*(conv3x3(x) + conv1x1(x))"
    assert text(Pad(4, ((1, 1),)) >> Pad(4, ((0, 0),)) >> Select((0,), 4, 1)) == "select(pad(x))"
    assert text(Concat((Identity(4, 2), dense))) == "[x; conv3x3(x)]"


def test_rebuilding_an_expression():
    make = Make(8)
    conv, norm = make.conv(2, 3, point(2)), make.norm(3, 2)
    pad = Pad(3, ((1, 1), (1, 1)), value=conv.bias)
    expression = Concat((conv >> pad >> norm, conv >> pad >> norm))
    assert [type(leaf).__name__ for leaf in leaves(expression)] == ["Conv", "Pad", "Norm"] * 2
    assert next(tensors(expression)) is conv.weight
    half = frozen(expression, torch.float32)
    assert {t.dtype for t in tensors(half)} == {torch.float32}
    assert not any(isinstance(leaf, Norm) for leaf in leaves(half))
    assert_same(expression, frozen(expression, torch.float64), (3, 4))
    # A tensor in two places stays one tensor, so that the law of padding first knows it without its values.
    meta = to_meta(expression)
    assert all(t.is_meta for t in tensors(meta))
    assert algebra.kernel(meta).weight.shape == algebra.kernel(frozen(expression, torch.float64)).weight.shape


def test_the_magnitude_bounds_every_partial_sum():
    make = Make(9)
    expression = make.conv(2, 3, make.same(2)) >> make.affine(3, 2) >> make.conv(3, 2, conv_window(2, 2))
    x = make.tensor(1, 2, 4, 5)
    assert (apply(magnitude(expression), x.abs()) >= apply(expression, x).abs()).all()
    single = apply(frozen(expression, torch.float32), x.float()).double()
    length, unit = path_length(expression), 2.0**-24
    bound = (length + 1) * unit * apply(magnitude(expression), x.abs())
    assert ((single - apply(expression, x)).abs() <= bound).all()


def test_how_long_a_path_is():
    make = Make(10)
    conv = make.conv(4, 6, make.same(2), 2)
    assert path_length(conv) == 2 * 9 + 1
    assert path_length(conv >> make.norm(6, 2)) == 19 + 5
    assert path_length(conv + conv + conv) == 19 + 2
    assert path_length(Concat((conv, make.conv(4, 6, point(2))))) == 19
    assert path_length(AvgPool(4, make.same(2))) == 10
    assert path_length(make.transposed(4, 6, (Axis(3), Axis(2)), 2)) == 2 * 6 + 1
    assert path_length(Chain((Identity(4, 2), Select((0,), 4, 2)))) == 0
