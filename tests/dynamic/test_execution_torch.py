"""Dynamic layers under what torch does to modules: autocast, compile, func, copies; and experts that are blocks."""

from __future__ import annotations

import copy
import io
import pickle
import shutil

import pytest
import torch
from torch import nn

from convfold import dynamic
from convfold.dynamic.execution import WAYS
from convfold.errors import InvalidArgument

D = torch.float64
KINDS = ("CondConv2d", "DynamicConv2d", "DyNetConv2d")


def layer_of(kind="CondConv2d", dtype=D, size=3, **options):
    torch.manual_seed(0)
    return getattr(dynamic, kind)(6, 8, size, padding=size // 2, dtype=dtype, **options)


def ways(size):
    return [way for way in WAYS if way != "product" or size == 1]


def magnitude(layer, x, routing):
    """The same sums with every number made positive: what roundings are in proportion to."""
    big = copy.deepcopy(layer)
    for parameter in big.parameters():
        parameter.data.abs_()
    return big(x.abs(), routing.abs())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 3])
def test_autocast_computes_in_bfloat16_and_trains_in_float32(kind, size):
    layer = layer_of(kind, torch.float32, size)
    layer.static_bias = nn.Parameter(torch.randn(8))
    x = torch.randn(3, 6, 7, 6)
    routing = layer.routing(x).detach()
    exact, scale = layer.double()(x.double(), routing.double()), magnitude(layer, x.double(), routing.double())
    layer.float()
    # Rounded to bfloat16: coefficient, weight, mixed kernel, input, sum, bias and output, half a unit each.
    bound = 7 * torch.finfo(torch.bfloat16).eps / 2
    for way in (*ways(size), "auto"):
        layer.mode = way
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x, routing)
            own = layer(x)
        assert y.dtype == own.dtype == torch.bfloat16, way
        assert bool(((y.double() - exact).abs() <= bound * scale).all()), way
        own.float().sum().backward()
        assert all(p.grad.dtype == torch.float32 and bool(p.grad.isfinite().all()) for p in layer.parameters()), way


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_way_answers_in_the_layers_type(kind, dtype):
    layer = layer_of(kind, D)
    x = torch.randn(3, 6, 7, 6, dtype=D)
    routing = layer.routing(x).detach()
    exact, scale = layer(x, routing), magnitude(layer, x, routing)
    layer.to(dtype)
    # Sums of C_in * 9 products and of K coefficients, in the type itself at worst.
    bound = (6 * 9 + layer.num_experts + 8) * torch.finfo(dtype).eps / 2
    for way in ways(3):
        layer.mode = way
        y = layer(x.to(dtype), routing.to(dtype))
        assert y.dtype == dtype
        assert bool(((y.double() - exact).abs() <= bound * scale).all()), way


def compiled_is_equal(layer, compiled, samples):
    x = torch.randn(samples, 6, 7, 6, requires_grad=True)
    expected, y = layer(x), compiled(x)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    wanted = torch.autograd.grad(expected.square().sum(), [x, *layer.parameters()])
    got = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()))


@pytest.mark.parametrize(("kind", "backend"), [*((kind, "eager") for kind in KINDS), ("CondConv2d", "aot_eager")])
def test_compiled(kind, backend):
    torch._dynamo.reset()
    layer = layer_of(kind, torch.float32)
    compiled = torch.compile(layer, backend=backend, fullgraph=True)
    # The second size of a batch makes it a symbol; the third runs what was compiled for any.
    for samples in (3, 5, 2, 1):
        compiled_is_equal(layer, compiled, samples)
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a compiler")
def test_compiled_to_machine_code():
    torch._dynamo.reset()
    layer = layer_of(dtype=torch.float32)
    compiled_is_equal(layer, torch.compile(layer, fullgraph=True), 3)
    torch._dynamo.reset()


def test_compiled_with_a_way_chosen_by_hand():
    torch._dynamo.reset()
    layer = layer_of(dtype=torch.float32)
    layer.mode = "grouped"
    compiled = torch.compile(layer, backend="eager")
    for samples in (3, 5, 2):
        x = torch.randn(samples, 6, 7, 6)
        torch.testing.assert_close(compiled(x), layer(x))
    torch._dynamo.reset()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("last", [False, True])
def test_vmap_maps_over_batches_and_over_samples(kind, last):
    layer = layer_of(kind)
    x = torch.randn(2, 3, 6, 5, 4, dtype=D)
    if last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    expected = torch.stack([layer(v) for v in x])
    for way in ways(3):
        layer.mode = way
        torch.testing.assert_close(torch.func.vmap(layer)(x), expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(torch.func.vmap(layer)(x[0]), expected[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_per_sample(kind):
    layer = layer_of(kind)
    x = torch.randn(3, 6, 5, 4, dtype=D)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters, sample):
        return torch.func.functional_call(layer, parameters, (sample[None],)).square().sum()

    for way in ways(3):
        layer.mode = way
        each = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
        for i in range(3):
            wanted = torch.autograd.grad(layer(x[i : i + 1]).square().sum(), list(layer.parameters()))
            for (name, _), want in zip(layer.named_parameters(), wanted, strict=True):
                torch.testing.assert_close(each[name][i], want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("way", [way for way in WAYS if way != "product"])
def test_a_directional_derivative_is_the_difference(way):
    layer = layer_of()
    layer.mode = way
    x, v = torch.randn(2, 6, 5, 4, dtype=D), torch.randn(2, 6, 5, 4, dtype=D)
    _, derivative = torch.func.jvp(layer, (x,), (v,))
    step = 1e-5
    difference = (layer(x + step * v) - layer(x - step * v)) / (2 * step)
    torch.testing.assert_close(derivative, difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", [*KINDS, "CondConv1d", "DynamicConv3d", "CondLinear", "DynamicLinear"])
def test_copies_compute_the_same(kind):
    cls = getattr(dynamic, kind)
    layer = cls(4, 6) if kind.endswith("Linear") else cls(4, 6, 3, padding=1, stride=2)
    layer.mode = "feature"
    x = torch.randn(2, 4) if kind.endswith("Linear") else torch.randn(2, 4, *(5,) * layer.dims)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    fresh = cls(4, 6) if kind.endswith("Linear") else cls(4, 6, 3, padding=1, stride=2)
    fresh.load_state_dict(layer.state_dict())
    fresh.mode = "feature"
    others = (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False), fresh)
    for other in others:
        assert other.mode == layer.mode
        assert torch.equal(other(x), layer(x))


def test_experts_with_batch_statistics_train_as_the_sum_of_their_outputs():
    torch.manual_seed(0)
    layer = dynamic.DynamicConv2d(4, 6, 3, padding=1, conv="repvgg", num_experts=3, dtype=D).train()
    x = torch.randn(5, 4, 6, 6, dtype=D)
    alone = copy.deepcopy(layer)
    routing = alone.routing(x)
    expected = sum(routing[:, k, None, None, None] * expert(x) for k, expert in enumerate(alone.experts))
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    for name, value in layer.state_dict().items():
        assert torch.equal(value, alone.state_dict()[name]), name  # running statistics were updated once
    layer.eval()
    expected = sum(routing[:, k, None, None, None] * expert.eval()(x) for k, expert in enumerate(alone.experts))
    for way in ways(3):
        layer.mode = way
        torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    layer.mode = "kernel"
    with pytest.raises(InvalidArgument, match=r"no kernels: they use the batch's statistics.*'auto' or 'feature'"):
        layer.train()(x)
