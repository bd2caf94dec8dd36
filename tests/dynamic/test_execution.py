"""How a mixture is run: chunks, the choice among ways, memory formats, and samples one by one."""

from __future__ import annotations

import pytest
import torch

from convfold import dynamic
from convfold.algebra import hollow
from convfold.dynamic import rule
from convfold.dynamic.execution import FREE_BATCH, WAYS
from convfold.dynamic.rule import choose, samples_at_once
from convfold.errors import InvalidArgument
from support.allocator import allocator_peak
from support.dynamic import random_layer, sample_by_sample

D = torch.float64
POINTWISE_ONLY = "product"


def layer_of(kind="CondConv2d", inputs=8, outputs=8, size=3, **options):
    torch.manual_seed(0)
    return getattr(dynamic, kind)(inputs, outputs, size, padding=size // 2, **{"dtype": D, **options})


def ways(layer):
    return [way for way in WAYS if way != POINTWISE_ONLY or all(k == 1 for k in layer.kernel_size)]


def close(a, b, ceiling=1e-12):
    a, b = a.detach(), b.detach()
    return a.shape == b.shape and float((a - b).abs().max()) <= ceiling * float(b.abs().max())


@pytest.mark.parametrize("kind", ["CondConv2d", "DynamicConv2d", "DyNetConv2d"])
@pytest.mark.parametrize("kernels", [1, 2, 3, 4])
def test_chunks_of_any_size_compute_the_same(kind, kernels, monkeypatch):
    layer = layer_of(kind, groups=2)
    x = torch.randn(7, 8, 6, 5, dtype=D, requires_grad=True)
    direction = torch.randn(7, 8, 6, 5, dtype=D)
    monkeypatch.setattr(rule, "KERNEL_BYTES", kernels * layer.weight[0].numel() * 8)
    assert samples_at_once(layer.mixture(), 7) < 7
    found = {}
    for mode in ("grouped", "whole"):
        layer.mode = mode
        y = layer(x)
        found[mode] = [y, *torch.autograd.grad(y, [x, *layer.parameters()], direction)]
    assert close(found["grouped"][0], found["whole"][0])
    assert all(close(a, b, 1e-10) for a, b in zip(found["grouped"], found["whole"], strict=True))


@pytest.mark.parametrize("samples", [1, 2, 7, 8, 31, 32, 33])
@pytest.mark.parametrize("channels", [4, 128, 2048])
def test_a_chunk_holds_what_the_cache_holds(samples, channels):
    with torch.device("meta"):
        mixture = dynamic.CondConv2d(channels, channels, 3).mixture()
    size = samples_at_once(mixture, samples)
    kernel = channels * channels * 9 * 4
    assert 1 <= size <= samples
    assert size == 1 or size * kernel <= rule.KERNEL_BYTES
    chunks = -(-samples // size)
    # Nearly equal chunks, and no more of them than there must be.
    assert size == -(-samples // chunks)
    assert chunks == 1 or (chunks - 1) * max(1, rule.KERNEL_BYTES // kernel) < samples


@pytest.mark.parametrize(
    ("options", "shape", "way"),
    [
        ({}, (32, 128, 14, 14), "grouped"),
        ({}, (1, 128, 14, 14), "grouped"),
        ({}, (1, 128, 1, 1), "grouped"),
        ({}, (32, 128, 4, 4), "feature"),
        ({}, (32, 128, 7, 7), "grouped"),
        ({"stride": 2}, (32, 128, 8, 8), "feature"),
        ({"stride": 2}, (32, 128, 14, 14), "grouped"),
        ({"num_experts": 8}, (32, 128, 4, 4), "grouped"),
        ({"groups": 128}, (32, 128, 2, 2), "grouped"),
        ({"kernel_size": 1}, (32, 128, 14, 14), "product"),
        ({"kernel_size": 1}, (32, 128, 2, 2), "feature"),
    ],
)
def test_the_choice_is_made_of_shapes(options, shape, way):
    options = {"kernel_size": 3, **options}
    layer = hollow(dynamic.CondConv2d(128, 128, padding=options["kernel_size"] // 2, **options))
    mixture, x = layer.mixture(), torch.empty(shape, device="meta")
    assert choose(mixture, x, "auto") == way
    assert choose(mixture, x, "feature") == "feature"
    assert choose(mixture, x, "kernel") == ("product" if options["kernel_size"] == 1 else "grouped")


def test_depthwise_training_of_large_maps_goes_sample_by_sample():
    def way(size, mode="auto", groups=128):
        layer = dynamic.CondConv2d(128, 128, 3, padding=1, groups=groups, device="meta")
        return choose(layer.mixture(), torch.empty(32, 128, size, size, device="meta"), mode)

    assert (way(56), way(28), way(56, "kernel"), way(56, groups=64)) == ("loop", "grouped", "grouped", "grouped")
    with torch.no_grad():
        assert way(56) == "grouped"
    layer = dynamic.CondConv2d(128, 128, 3, padding=1, groups=128, dtype=D)
    x = torch.randn(2, 128, 56, 56, dtype=D)
    assert close(torch.compile(layer, backend="eager", fullgraph=True)(x), layer(x).detach())


@pytest.mark.parametrize("kind", ["CondConv", "DynamicConv", "DyNetConv"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [1, 3])
def test_channels_last_in_and_out(kind, dims, size):
    form = torch.channels_last if dims == 2 else torch.channels_last_3d
    layer = layer_of(f"{kind}{dims}d", size=size, stride=2)
    x = torch.randn(3, 8, *(7, 6, 5)[:dims], dtype=D)
    expected = sample_by_sample(layer, x, layer.routing(x))
    for way in (*ways(layer), "auto"):
        layer.mode = way
        y = layer(x.contiguous(memory_format=form))
        assert y.is_contiguous(memory_format=form), way
        assert close(y, expected), way
        assert layer(x).is_contiguous(), way
        assert close(layer(x[:1].contiguous(memory_format=form)), expected[:1]), way


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("CondConv1d", torch.channels_last),
        ("CondConv2d", torch.channels_last),
        ("DyNetConv3d", torch.channels_last_3d),
        ("CondLinear", torch.channels_last),
    ],
)
def test_a_model_is_put_channels_last(kind, form):
    """torch lays out parameters of four or five axes as kernels; a stack of kernels has as many by accident."""
    layer = getattr(dynamic, kind)(8, 6, dtype=D) if kind == "CondLinear" else layer_of(kind)
    x = torch.randn(2, 8, *(5,) * layer.dims, dtype=D)
    layer(x).sum().backward()
    expected, shape = layer(x), layer.weight.shape
    layer.to(memory_format=form)
    assert layer.weight.is_contiguous()
    assert layer.weight.shape == layer.weight.grad.shape == shape
    assert torch.equal(layer(x), expected)
    assert layer.float().weight.dtype == torch.float32


def test_an_input_that_is_a_view():
    layer = layer_of()
    x = torch.randn(5, 16, 9, 8, dtype=D)
    for view in (x[1:4, ::2], x.transpose(2, 3)[:, :8], x[:, 8:, ::2, 1:], x[:1, :8].expand(4, -1, -1, -1)):
        expected = sample_by_sample(layer, view, layer.routing(view))
        for way in ways(layer):
            layer.mode = way
            assert close(layer(view), expected), way


@pytest.mark.parametrize("kind", ["CondConv2d", "DynamicConv2d", "DyNetConv2d", "CondLinear", "DynamicLinear"])
def test_a_sample_alone_is_the_sample_in_its_batch(kind):
    linear = kind.endswith("Linear")
    layer = getattr(dynamic, kind)(6, 5, dtype=D) if linear else layer_of(kind)
    x = torch.randn(4, 6, dtype=D) if linear else torch.randn(4, 8, 6, 6, dtype=D)
    modes = ("kernel", "feature") if linear else ways(layer)
    for way in modes:
        layer.mode = way
        together = layer.train()(x)
        assert all(close(layer(x[i : i + 1]), together[i : i + 1]) for i in range(4)), way


def test_a_given_routing_has_a_gradient():
    for seed in range(12):
        layer, x = random_layer(seed)
        routing = layer.routing(x).detach().requires_grad_()
        expected = sample_by_sample(layer, x, routing)
        direction = torch.randn_like(expected)
        (wanted,) = torch.autograd.grad(expected, routing, direction)
        for way in ways(layer):
            layer.mode = way
            (got,) = torch.autograd.grad(layer(x, routing), routing, direction)
            assert close(got, wanted, 1e-10), (seed, way)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_gradients_are_those_of_finite_differences(way):
    layer = layer_of(inputs=2, outputs=2, size=1 if way == POINTWISE_ONLY else 3, num_experts=2)
    layer.mode = way
    x = torch.randn(2, 2, 3, 3, dtype=D, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    inputs = (x, *(p.detach().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (32, 128, 14, 14)),
        ({}, (8, 64, 28, 28)),
        ({"groups": 64}, (8, 64, 14, 14)),
        ({"kernel_size": 1, "padding": 0}, (16, 128, 14, 14)),
    ],
)
def test_a_training_step_takes_no_more_memory_than_the_grouped_form(options, shape):
    layer = dynamic.CondConv2d(shape[1], shape[1], **{"kernel_size": 3, "padding": 1, **options})
    x = torch.randn(shape, requires_grad=True)
    held = {}
    for mode in ("auto", "whole"):
        layer.mode = mode

        def step():
            torch.autograd.grad(layer(x).sum(), [x, *layer.parameters()])

        step()
        held[mode] = allocator_peak(step)
    assert held["auto"] <= held["whole"]


@pytest.mark.parametrize("way", sorted(set(WAYS) - FREE_BATCH))
def test_a_way_with_a_fixed_batch_is_not_exported(way):
    layer = layer_of()
    layer.mode = way
    x = torch.randn(2, 8, 6, 6, dtype=D)
    with pytest.raises(InvalidArgument, match=f"cannot be exported: got mode '{way}'.*layer.mode = \"auto\""):
        torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("n")},), strict=False)
    assert layer(x).shape == x.shape
