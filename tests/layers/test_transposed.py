"""Depthwise separable transposed convolution, against torch's own transposed convolutions in a row."""

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convfold
from blocks.cases import normal
from blocks.contract import gradients, operators, same_values
from convfold import layers
from convfold.errors import InvalidArgument
from layers.suite import gradients_of
from support.make import randomise

TORCH = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FUNCTION: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
POINT: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
ARGUMENTS: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1, "groups": 2},
    {"kernel_size": 2, "stride": 3, "dilation": 2, "output_padding": 2, "groups": 4},
    {"kernel_size": 1, "stride": 2},
]


def made(dims: int, **arguments: Any) -> Any:
    layer = layers.build("depthwise_separable_transpose", dims, 4, 8, **arguments, dtype=torch.float64)
    return randomise(layer, torch.Generator().manual_seed(1))


def in_a_row(layer: Any, dims: int, a: dict[str, Any], x: Tensor) -> Tensor:
    def apart(x: Tensor) -> Tensor:
        w, b, groups = layer.depthwise.weight, layer.depthwise.bias, layer.depthwise.groups
        assert groups == (8 if layer.pointwise_first else 4)
        options = (a.get("stride", 1), a.get("padding", 0), a.get("output_padding", 0), groups, a.get("dilation", 1))
        return FUNCTION[dims](x, w, b, *options)

    def point(x: Tensor) -> Tensor:
        return POINT[dims](x, layer.pointwise.weight, layer.pointwise.bias, groups=a.get("groups", 1))

    return apart(point(x)) if layer.pointwise_first else point(apart(x))


@pytest.mark.parametrize("a", ARGUMENTS, ids=str)
@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_values_gradients_modes_and_fold(dims: int, multiplier: int, order: str, a: dict[str, Any]) -> None:
    layer = made(dims, depth_multiplier=multiplier, pointwise=order, **a)
    x = normal(2, 4, *(4,) * dims)
    truth = in_a_row(layer, dims, a, x)
    assert layer.mode == "feature"
    same_values(layer(x), truth)
    same_values(layer(x[0]), truth[0])
    expected = gradients_of(layer, lambda x: in_a_row(layer, dims, a, x), x)
    for mode in ("feature", "kernel"):
        layer.mode = mode
        same_values(layer(x), truth)
        for name, gradient in gradients(layer, x, normal(*truth.shape, seed=7)).items():
            least = 1e-3 * max(g.abs().max().item() for g in expected.values())
            same_values(gradient, expected[name], ceiling=1e-10, least=least)
    folded = layer.fold()
    same_values(folded(x), truth)
    plain = TORCH[dims](4, 8, **a)
    assert repr(folded) == repr(plain)
    assert operators(folded, x).names == operators(plain.double(), x).names
    weight, _ = convfold.kernel(layer)
    same_values(weight.detach(), folded.weight)


def test_pointwise_first_is_the_transpose_of_the_separable_layer() -> None:
    """The gradient of the depthwise separable layer in its input, by the same numbers."""
    window = {"kernel_size": 3, "stride": 2, "padding": 1, "bias": False, "dtype": torch.float64}
    down = layers.DepthwiseSeparableConv2d(6, 4, **window)
    up = layers.DepthwiseSeparableConvTranspose2d(4, 6, **window, pointwise="first")
    with torch.no_grad():
        up.pointwise.weight.copy_(down.pointwise.weight.transpose(0, 1))
        up.depthwise.weight.copy_(down.depthwise.weight)
    x = normal(1, 6, 7, 9).requires_grad_()
    y = normal(1, 4, 4, 5, seed=2)
    (gradient,) = torch.autograd.grad(down(x), x, y)
    same_values(up(y), gradient)


def test_pointwise_first_is_cheaper_by_the_stride() -> None:
    x = torch.empty(1, 64, 8, 8)
    last, first = (
        convfold.cost(layers.DepthwiseSeparableConvTranspose2d(64, 64, 4, stride=2, padding=1, pointwise=order), x).macs
        for order in ("last", "first")
    )
    assert last == 64 * (64 * 16 + 256 * 64)
    assert first == 64 * 64 * (64 + 16)


def test_signature_and_repr_are_torch_s() -> None:
    ours = list(inspect.signature(layers.DepthwiseSeparableConvTranspose2d).parameters.values())
    torchs = list(inspect.signature(nn.ConvTranspose2d).parameters.values())
    assert [(p.name, p.default) for p in ours[: len(torchs)]] == [(p.name, p.default) for p in torchs]
    assert [p.name for p in ours[len(torchs) :]] == ["depth_multiplier", "pointwise"]
    text = repr(layers.DepthwiseSeparableConvTranspose2d(4, 6, 3, 2, 1, 1, 2, False, 1))
    assert text.splitlines()[1].strip() == (
        "4, 6, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1), groups=2, bias=False, "
        "mode='feature'"
    )
    assert "dilation=(2, 2)" in repr(layers.DepthwiseSeparableConvTranspose2d(4, 6, 3, dilation=2))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"padding_mode": "circular"},
            "a transposed convolution pads with zeros, by numbers: got padding=0, padding_mo",
        ),
        ({"padding": "same"}, "a transposed convolution pads with zeros, by numbers: got padding='same'"),
        ({"output_padding": 1}, r"output_padding is not below the stride or the dilation: got output_padding \(1, 1\)"),
        ({"pointwise": "middle"}, "pointwise is unknown: got 'middle', expected 'first' or 'last'"),
        ({"depth_multiplier": 0}, "depth_multiplier is not a positive integer: got 0"),
        (
            {"conv": "dbb"},
            "got an unexpected keyword argument 'conv': expected its own options: depth_multiplier, poin",
        ),
        ({"groups": 3}, r"groups must divide in_channels and out_channels: got groups=3 with 4 -> 8"),
    ],
)
def test_its_errors(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        layers.DepthwiseSeparableConvTranspose2d(4, 8, 3, **options)


def test_copies_and_formats() -> None:
    layer, x = made(2, kernel_size=4, stride=2, padding=1), normal(2, 4, 5, 6)
    y = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), y)
        assert repr(twin) == repr(layer)
    for mode in ("feature", "kernel"):
        layer.mode = mode
        same_values(torch.export.export(layer, (x,)).module()(x), y)
    last = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    same_values(last(x.contiguous(memory_format=torch.channels_last)), y)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        other = copy.deepcopy(layer).to(dtype)
        assert other(x.to(dtype)).dtype == dtype
        assert torch.equal(other.fold().weight, copy.deepcopy(other).double().fold().weight.to(dtype))


def test_the_folder_leaves_it_alone() -> None:
    layer, x = made(2, kernel_size=4, stride=2, padding=1).eval(), normal(2, 4, 5, 6)
    assert convfold.cost(convfold.fold(layer, x), x).macs == convfold.cost(layer, x).macs
