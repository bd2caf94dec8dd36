"""Gated convolutions and Fire: layers that fold in part."""

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convfold
from blocks.cases import normal
from blocks.contract import gradients, same_values
from convfold import layers
from convfold.errors import InvalidArgument
from layers.suite import gradients_of
from support.make import randomise

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
PHI = {"linear": lambda z: z, "elu": F.elu, "relu": F.relu, "leaky_relu": lambda z: F.leaky_relu(z, 0.01)}
ARGUMENTS: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 4, "stride": 2, "padding": 2, "dilation": 2, "bias": False},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "groups": 2},
    {"kernel_size": 3, "padding": 2, "padding_mode": "replicate", "groups": 4, "stride": 2},
    {"kernel_size": 3, "padding": "same", "groups": 2},
]


def made(name: str, dims: int, **arguments: Any) -> Any:
    layer = layers.build(name, dims, 4, 8, **arguments, dtype=torch.float64)
    return randomise(layer, torch.Generator().manual_seed(1)).eval()


def shaped(x: Tensor, dims: int, a: dict[str, Any]) -> Tensor:
    """The input with its padding around it."""
    pad = a.get("padding", 0)
    pad = a["kernel_size"] // 2 if pad == "same" else pad
    mode = a.get("padding_mode", "zeros")
    return F.pad(x, [pad, pad] * dims, mode="constant" if mode == "zeros" else mode)


def gate(layer: Any, x: Tensor, dims: int, a: dict[str, Any], phi: Any) -> Tensor:
    """Group by group: a convolution for the values, another for the gates."""
    groups = a.get("groups", 1)
    x = shaped(x, dims, a)
    done = []
    for share, rows in zip(x.chunk(groups, 1), layer.conv.weight.chunk(groups), strict=True):
        biases = [None, None]
        if layer.conv.bias is not None:
            biases = list(layer.conv.bias.chunk(groups)[len(done)].chunk(2))
        values, gates = (
            CONV[dims](share, w, b, a.get("stride", 1), 0, a.get("dilation", 1))
            for w, b in zip(rows.chunk(2), biases, strict=True)
        )
        done.append(phi(values) * torch.sigmoid(gates))
    return torch.cat(done, 1)


@pytest.mark.parametrize("a", ARGUMENTS, ids=str)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_gated_values_and_gradients(dims: int, a: dict[str, Any]) -> None:
    for activation in (None, "relu"):
        layer = made("gated", dims, activation=activation, **a)
        phi = PHI[activation or ("linear" if dims == 1 else "elu")]
        x = normal(2, 4, *(6,) * dims)
        same_values(layer(x), gate(layer, x, dims, a, phi))
        same_values(layer(x[0]), layer(x)[0])
        found = gradients(layer, x, normal(*layer(x).shape, seed=7))
        for name, truth in gradients_of(layer, lambda x, m=layer, phi=phi: gate(m, x, dims, a, phi), x).items():
            same_values(found[name], truth, ceiling=1e-10)


def test_in_one_dimension_it_is_torch_s_gated_linear_unit() -> None:
    layer, x = layers.GatedConv1d(4, 6, 3, padding=1), torch.randn(2, 4, 9)
    assert torch.allclose(layer(x), F.glu(layer.conv(x), dim=1))
    assert torch.allclose(layers.GatedConv1d(4, 6, 3, activation=nn.Tanh())(x), layers.GatedConv1d(4, 6, 3)(x)) is False


@pytest.mark.parametrize("a", [{}, {"dilation": 3}, {"stride": 2}, {"groups": 2}])
def test_a_causal_layer_reads_nothing_that_comes_later(a: dict[str, Any]) -> None:
    layer = made("gated", 1, kernel_size=3, causal=True, **a)
    x = normal(1, 4, 12).requires_grad_()
    y = layer(x)
    step = a.get("stride", 1)
    assert y.shape[-1] == (12 + step - 1) // step
    for place in range(y.shape[-1]):
        (gradient,) = torch.autograd.grad(y[..., place].sum(), x, retain_graph=True)
        reached = gradient.abs().sum((0, 1)) > 0
        first = place * step - 2 * a.get("dilation", 1)
        seen = range(first, place * step + 1, a.get("dilation", 1))
        assert reached.tolist() == [t in seen for t in range(12)]
    assert "causal=True" in repr(layer)


def test_the_errors_of_gated() -> None:
    with pytest.raises(InvalidArgument, match=r"GatedConv2d: only a sequence has an order .*: got causal=True in 2-D"):
        layers.GatedConv2d(4, 4, 3, causal=True)
    for padding, got in ((1, r"padding=\(1,\)"), ("same", "padding='same'")):
        with pytest.raises(
            InvalidArgument, match=f"a causal convolution pads by itself: got {got}, expected padding 0"
        ):
            layers.GatedConv1d(4, 4, 3, padding=padding, causal=True)
    with pytest.raises(
        InvalidArgument, match=r"GatedConv2d: activation is unknown: got 'swish', expected a module, or "
    ):
        layers.GatedConv2d(4, 4, 3, activation="swish")


def test_what_is_wide_inside_folds() -> None:
    """The convolution under the gate may be any block; folding leaves the gate and one convolution."""
    layer = layers.GatedConv2d(4, 6, 3, padding=1, conv="dbb").double()
    randomise(layer, torch.Generator().manual_seed(0)).eval()
    x = normal(2, 4, 7, 8)
    plain = convfold.fold(layer, x)
    same_values(plain(x), layer(x))
    assert [type(m) for m in plain.modules() if isinstance(m, nn.Conv2d)] == [nn.Conv2d]
    assert convfold.cost(plain, x).convolutions == 1


@pytest.mark.parametrize("a", [a for a in ARGUMENTS if a.get("groups", 1) == 1], ids=str)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_fire_values_and_gradients(dims: int, a: dict[str, Any]) -> None:
    layer = made("fire", dims, squeeze=3, pointwise=2, **a)
    k, d, s = a["kernel_size"], a.get("dilation", 1), a.get("stride", 1)

    def module(x: Tensor) -> Tensor:
        z = F.relu(CONV[dims](x, layer.squeeze.weight, layer.squeeze.bias))
        wide = shaped(z, dims, a)
        start, stop = d * ((k - 1) // 2), d * (k - 1 - (k - 1) // 2)
        seen = wide[(..., *[slice(start, n - stop) for n in wide.shape[2:]])]
        small = F.relu(CONV[dims](seen, layer.expand.point.weight, layer.expand.point.bias, s))
        large = F.relu(CONV[dims](wide, layer.expand.dense.weight, layer.expand.dense.bias, s, 0, d))
        return torch.cat([small, large], 1)

    x = normal(2, 4, *(6,) * dims)
    assert layer(x).shape[1] == 8
    same_values(layer(x), module(x))
    same_values(layer(x[0]), layer(x)[0])
    found = gradients(layer, x, normal(*layer(x).shape, seed=7))
    for name, truth in gradients_of(layer, module, x).items():
        same_values(found[name], truth, ceiling=1e-10)


def test_fire_is_squeezenet_s() -> None:
    fire = layers.Fire2d(96, 128, 3, padding=1)
    assert (fire.squeeze.out_channels, fire.expand.point.out_channels, fire.expand.dense.out_channels) == (16, 64, 64)
    # fire2 of SqueezeNet: 96*16 + 16*64 + 9*16*64 weights, and the biases.
    assert sum(p.numel() for p in fire.parameters()) == 1536 + 16 + 1024 + 64 + 9216 + 64


def test_the_errors_of_fire() -> None:
    with pytest.raises(InvalidArgument, match="Fire2d: squeeze is not a positive integer: got 0"):
        layers.Fire2d(8, 8, 3, squeeze=0)
    with pytest.raises(InvalidArgument, match="pointwise leaves one half empty: got 8, expected from 1 to 7"):
        layers.Fire2d(8, 8, 3, pointwise=8)
    with pytest.raises(InvalidArgument, match="fire has no groups: got 2, expected 1"):
        layers.Fire2d(8, 8, 3, groups=2)


def test_fire_s_expand_is_left_alone_and_folds_on_request() -> None:
    fire = randomise(layers.Fire2d(8, 8, 3, padding=1).double(), torch.Generator().manual_seed(0)).eval()
    x = normal(2, 8, 6, 6)
    kept = convfold.fold(fire, x)
    assert convfold.cost(kept, x).macs == convfold.cost(fire, x).macs
    folded = nn.Sequential(fire.squeeze, nn.ReLU(), fire.expand.fold(), nn.ReLU())
    same_values(folded(x), fire(x))


@pytest.mark.parametrize("name", ["gated", "fire"])
def test_copies_and_formats(name: str) -> None:
    layer, x = made(name, 2, kernel_size=3, padding=1), normal(2, 4, 6, 7)
    y = layer(x)
    other = layers.build(name, 2, 4, 8, 3, padding=1, dtype=torch.float64)
    other.load_state_dict(layer.state_dict())
    for twin in (other, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), y)
        assert repr(twin) == repr(layer)
    exported = torch.export.export(layer, (x,)).module()
    same_values(exported(x), y)
    last = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    z = last(x.contiguous(memory_format=torch.channels_last))
    same_values(z, y)
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        assert copy.deepcopy(layer).to(dtype)(x.to(dtype)).dtype == dtype
