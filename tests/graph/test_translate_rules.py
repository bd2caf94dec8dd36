"""Every operator and spelling: the steps against the model, and the meaning of the nodes against the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convfold.graph.capture import capture, evaluate
from convfold.graph.captured import Captured
from convfold.graph.inputs import example_inputs
from convfold.graph.program import Elementwise, Linear, Opaque
from support.make import randomise
from support.programs import check_nodes


class Of(nn.Module):
    """A function of x (and y) with two convolutions and parameters around to use."""

    def __init__(self, function: Callable[..., Any], channels: int = 6) -> None:
        super().__init__()
        self.function = function
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)
        self.bn1 = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, 5)
        self.scale = nn.Parameter(torch.randn(channels, 1, 1))
        self.vector = nn.Parameter(torch.randn(channels))
        self.number = nn.Parameter(torch.randn(1))
        self.map = nn.Parameter(torch.randn(channels, 8, 10))
        self.kernel = nn.Parameter(torch.randn(4, channels // 2, 3, 5))
        self.up = nn.Parameter(torch.randn(channels, 2, 3, 2))
        self.matrix = nn.Parameter(torch.randn(channels, 7))
        self.drop = nn.Dropout(0.4)
        self.register_buffer("order", torch.tensor([3, 0, 5, 5]))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def captured_of(function: Callable[..., Any], x: Tensor) -> tuple[Of, Captured]:
    torch.manual_seed(3)
    model = Of(function).eval()
    randomise(model, torch.Generator().manual_seed(4))
    return model, capture(model, example_inputs(model, x))


X = torch.randn(2, 6, 8, 10, generator=torch.Generator().manual_seed(0))


def last(captured: Captured) -> Any:
    return captured.program.nodes[captured.program.outputs[0]]


def kinds(captured: Captured) -> set[str]:
    """What the output needs: kinds of nodes, and of maps."""
    found: set[str] = set()
    for number in captured.program.live():
        node = captured.program.nodes.get(number)
        if isinstance(node, Linear):
            found |= {term.map.kind for term in node.terms}
        elif node is not None:
            found.add(type(node).__name__)
    return found


LINEAR = {
    "conv": (lambda m, x: m.conv(x), {"conv"}),
    "conv same": (lambda m, x: F.conv2d(x, m.kernel, padding="same", dilation=(1, 2), groups=2), {"conv"}),
    "conv strided": (lambda m, x: F.conv2d(x, m.kernel, m.vector[:4], (2, 3), (1, 0), 1, 2), {"conv"}),
    "conv unbatched": (lambda m, x: m.conv(x[0]), None),
    "conv1d": (lambda m, x: F.conv1d(x.flatten(2), m.kernel[:, :, 0], groups=2, padding=2), {"conv", "Spatial"}),
    "conv3d": (lambda m, x: F.conv3d(x.unsqueeze(2), m.kernel[:, :, None], groups=2), {"conv", "Spatial"}),
    "conv composed kernel": (lambda m, x: F.conv2d(x, m.kernel * 2 + m.kernel.flip(3), groups=2), {"conv"}),
    "conv dynamic": (lambda m, x: F.conv2d(x, x[:, :, :3, :3]), None),
    "transposed": (lambda m, x: F.conv_transpose2d(x, m.up, None, (2, 3), (1, 0), (1, 2), 2), {"transposed"}),
    "linear on nhwc": (lambda m, x: m.linear(x.permute(0, 2, 3, 1)), {"conv", "Spatial"}),
    "linear on tokens": (lambda m, x: m.linear(x.flatten(2).transpose(1, 2)), {"conv", "Spatial"}),
    "matmul": (lambda m, x: x.permute(0, 2, 3, 1) @ m.matrix, {"conv", "Spatial"}),
    "addmm": (lambda m, x: torch.addmm(m.matrix[0], x.mean((2, 3)), m.matrix), {"conv", "Spatial"}),
    "bn": (lambda m, x: m.bn(x), {"diagonal"}),
    "bn functional": (
        lambda m, x: F.batch_norm(x, m.bn.running_mean, m.bn.running_var, None, m.vector, False, 0.1, 0.3),
        {"diagonal"},
    ),
    "bn 2d": (lambda m, x: m.bn1(x.mean((2, 3))), {"diagonal", "Spatial"}),
    "bn 3d": (lambda m, x: m.bn1(x.flatten(2)), {"diagonal", "Spatial"}),
    "bn training": (lambda m, x: F.batch_norm(x, None, None, training=True), {"Opaque"}),
    "add": (lambda m, x: m.conv(x) + x, {"conv", "identity"}),
    "add alpha": (lambda m, x: torch.add(m.conv(x), x, alpha=3), {"conv", "identity", "scalar"}),
    "add itself": (lambda m, x: x + x, {"identity"}),
    "sub": (lambda m, x: m.conv(x) - x, {"conv", "identity", "scalar"}),
    "add in place": (lambda m, x: m.conv(x).add_(x), {"conv", "identity"}),
    "iadd": (lambda m, x: m.conv(x).__iadd__(x), {"conv", "identity"}),
    "neg": (lambda m, x: -x, {"scalar"}),
    "add number": (lambda m, x: x + 0.1, {"identity"}),
    "add number alpha": (lambda m, x: torch.add(x, 0.1, alpha=7), {"identity"}),
    "rsub": (lambda m, x: 1 - x, {"scalar"}),
    "sub from constant": (lambda m, x: m.scale - x, {"scalar"}),
    "sub constant": (lambda m, x: x - m.scale, {"identity"}),
    "mul number": (lambda m, x: 0.3 * x, {"scalar"}),
    "div number": (lambda m, x: x / 3, {"scalar"}),
    "div in place": (lambda m, x: m.conv(x).div_(3), {"conv", "scalar"}),
    "div constant": (lambda m, x: x / m.scale, {"diagonal"}),
    "div by value": (lambda m, x: m.scale / x, {"Opaque"}),
    "mul one element": (lambda m, x: x * m.number, {"scalar"}),
    "add one element": (lambda m, x: m.number + x, {"identity"}),
    "layer scale": (lambda m, x: m.scale * x, {"diagonal"}),
    "layer scale tokens": (lambda m, x: x.permute(0, 2, 3, 1) * m.vector, {"diagonal", "Spatial"}),
    "add map": (lambda m, x: x + m.map, {"Opaque"}),
    "mul values": (lambda m, x: x * m.conv(x), {"Opaque", "conv"}),
    "add broadcast": (lambda m, x: x + x.mean((2, 3), keepdim=True), {"Opaque", "Spatial"}),
    "mul integer": (lambda m, x: x * 2, {"scalar"}),
    "integers": (lambda m, x: (x * 0).long() + 1, None),
    "dropout": (lambda m, x: m.drop(m.conv(x)), {"identity", "conv"}),
    "dropout2d": (lambda m, x: F.dropout2d(m.conv(x), training=False), {"identity", "conv"}),
    "dropout alive": (lambda m, x: F.dropout(x, 0.0, training=True), {"Opaque"}),
    "cat": (lambda m, x: torch.cat([m.conv(x), x, x * 2], 1), {"Concat", "conv", "scalar"}),
    "cat last": (lambda m, x: torch.cat((m.conv(x), x), -1), {"Concat", "conv"}),
    "chunk": (lambda m, x: x.chunk(3, 1)[1] * 2, {"select", "scalar"}),
    "split": (lambda m, x: torch.cat(torch.split(x, [1, 3, 2], 1)[::-1], 1), {"Concat", "select"}),
    "split batch": (lambda m, x: x.split(1)[0], None),
    "slice": (lambda m, x: x[:, 1:5:2], None),
    "crop": (lambda m, x: x[:, :, 1:-2, ::2], None),
    "crop fixed": (lambda m, x: F.interpolate(x, (9, 9))[:, :, 2:7:3, 1:], None),
    "slice all": (lambda m, x: x[:, :] * 1, {"identity"}),
    "narrow": (lambda m, x: x.narrow(1, 2, 3), {"select"}),
    "index_select": (lambda m, x: x.index_select(1, m.order), {"select"}),
    "index": (lambda m, x: x[:, m.order], None),
    "flip": (lambda m, x: x.flip(1), {"select"}),
    "roll": (lambda m, x: x.roll(2, 1), {"select"}),
    "channel shuffle": (lambda m, x: F.channel_shuffle(x, 3), {"select"}),
    "shuffle by views": (
        lambda m, x: x.view(x.shape[0], 3, 2, *x.shape[2:]).transpose(1, 2).reshape(x.shape),
        {"select"},
    ),
    "shuffle by flat views": (
        lambda m, x: x.flatten(2).unflatten(1, (2, 3)).transpose(1, 2).reshape(x.shape),
        {"select"},
    ),
    "there and back": (lambda m, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), {"identity"}),
    "zero pad": (lambda m, x: F.pad(x, (1, 2, 0, 3)), {"pool"}),
    "negative pad": (lambda m, x: F.pad(x, (-1, 2)), {"pool"}),
    "no pad": (lambda m, x: F.pad(x, (0, 0)), {"identity"}),
    "pad channels": (lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2)), {"Spatial"}),
    "pad value": (lambda m, x: F.pad(x, (1, 1), value=2.0), {"Opaque"}),
    "reflect": (lambda m, x: F.pad(x, (1, 2, 3, 0), mode="reflect"), {"Spatial"}),
    "replicate": (lambda m, x: F.pad(x, (1, 2, 3, 0), mode="replicate"), {"Spatial"}),
    "circular": (lambda m, x: F.pad(x, (1, 2, 3, 0), mode="circular"), {"Spatial"}),
    "avg pool": (lambda m, x: F.avg_pool2d(x, 2), {"pool"}),
    "avg pool padded": (lambda m, x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0)), {"pool"}),
    "avg pool divisor": (lambda m, x: F.avg_pool2d(x, 3, 1, 1, divisor_override=5), {"pool"}),
    "avg pool not counted": (lambda m, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), {"Spatial"}),
    "avg pool ceil": (lambda m, x: F.avg_pool2d(x, 3, 2, ceil_mode=True), {"Spatial"}),
    "avg pool ceil padded": (lambda m, x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True), {"Spatial"}),
    "avg pool 1d": (lambda m, x: F.avg_pool1d(x.flatten(2), 3, 2), {"pool", "Spatial"}),
    "avg pool 3d": (lambda m, x: F.avg_pool3d(x.unsqueeze(2), (1, 2, 2)), {"pool", "Spatial"}),
    "adaptive": (lambda m, x: F.adaptive_avg_pool2d(x, (3, 1)), {"Spatial"}),
    "mean": (lambda m, x: x.mean((2, 3)), {"Spatial"}),
    "mean keepdim": (lambda m, x: x.mean((-1,), keepdim=True), {"Spatial"}),
    "mean of all": (lambda m, x: x.mean(), {"Spatial"}),
    "mean of channels": (lambda m, x: x.mean(1), {"Spatial"}),
    "sum": (lambda m, x: x.sum(3), {"Spatial"}),
    "nearest": (lambda m, x: F.interpolate(x, scale_factor=2), {"Spatial"}),
    "bilinear": (lambda m, x: F.interpolate(x, (5, 7), mode="bilinear"), {"Spatial"}),
    "bicubic": (lambda m, x: F.interpolate(x, scale_factor=1.5, mode="bicubic"), {"Spatial"}),
    "max pool": (lambda m, x: F.max_pool2d(x, 2), {"Opaque"}),
    "max with indices": (lambda m, x: x.max(1)[0], {"Opaque"}),
    "flatten": (lambda m, x: F.interpolate(x, (3, 2)).flatten(1), {"Spatial"}),
    "squeeze": (lambda m, x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(2).unsqueeze(1), None),
    "heads": (lambda m, x: x.flatten(2).transpose(1, 2).unflatten(2, (2, 3)).transpose(1, 2), {"Spatial"}),
    "pixel shuffle": (lambda m, x: F.pixel_shuffle(torch.cat([x, x], 1), 2), {"Spatial", "Concat"}),
    "pixel unshuffle": (lambda m, x: F.pixel_unshuffle(x, 2), {"Spatial"}),
    "expand": (lambda m, x: x.mean((2, 3), keepdim=True).expand(-1, -1, 4, 5), {"Spatial"}),
    "contiguous": (lambda m, x: x.transpose(2, 3).contiguous().clone(), {"Spatial"}),
    "stack": (lambda m, x: torch.stack([x, x], 1), {"Opaque"}),
    "softmax": (lambda m, x: x.softmax(1), {"Opaque"}),
    "attention": (lambda m, x: F.scaled_dot_product_attention(x, x, x), {"Opaque"}),
    "cast": (lambda m, x: x.to(torch.float32) * 2, None),
    "complex": (lambda m, x: torch.view_as_real(torch.fft.fft(x)), {"Opaque"}),
    "range": (lambda m, x: x + torch.arange(x.shape[-1]), {"Opaque"}),
    "prelu": (lambda m, x: F.prelu(x, m.number), {"Elementwise"}),
    "prelu per channel": (lambda m, x: F.prelu(x, m.vector), {"Opaque"}),
    "unbind": (lambda m, x: x.unbind(1)[2], None),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_operator(name: str) -> None:
    function, expected = LINEAR[name]
    model, captured = captured_of(function, X)
    given = example_inputs(model, X)
    values = evaluate(captured, given)
    with torch.no_grad():
        want = model.double()(X.double())
    got = values[captured.program.outputs[0]]
    torch.testing.assert_close(got, want.to(got.dtype), rtol=1e-12, atol=1e-12)
    check_nodes(captured, values)
    if expected is not None:
        assert kinds(captured) == expected


UNARY = [
    lambda x: F.relu(x), lambda x: F.relu_(x * 1.5), lambda x: F.relu6(x), lambda x: F.hardtanh_(x * 2, -1, 2),
    lambda x: F.silu(x), lambda x: F.gelu(x, approximate="tanh"), lambda x: F.hardswish(x), F.hardsigmoid,
    torch.sigmoid, torch.tanh, lambda x: F.leaky_relu(x, 0.2), F.elu, F.selu, F.mish, F.softplus,
    lambda x: x.clamp(-1, 0.5), lambda x: x.clamp_min(0.1), torch.abs, torch.exp, lambda x: x.pow(3),
    lambda x: x.abs().sqrt(), F.logsigmoid, torch.square, lambda x: x**2,
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(UNARY)))
def test_elementwise_functions_are_told_by_name_and_numbers(index: int) -> None:
    function = UNARY[index]
    model, captured = captured_of(lambda m, x: torch.cat([function(x), function(m.conv(x))], 1), X)
    values = evaluate(captured, example_inputs(model, X))
    with torch.no_grad():
        want = model.double()(X.double())
    torch.testing.assert_close(values[captured.program.outputs[0]], want, rtol=1e-13, atol=1e-13)
    check_nodes(captured, values)
    concat = last(captured)
    one, two = (captured.program.nodes[piece] for piece in concat.pieces)
    assert isinstance(one, Elementwise)
    assert isinstance(two, Elementwise)
    assert one.key == two.key
    assert one.like != two.like


def test_elementwise_functions_with_other_numbers_differ() -> None:
    _, captured = captured_of(lambda m, x: torch.cat([F.leaky_relu(x, 0.1), F.leaky_relu(x, 0.2)], 1), X)
    one, two = (captured.program.nodes[piece] for piece in last(captured).pieces)
    assert one.key != two.key


def test_a_random_operator_is_no_constant() -> None:
    _, captured = captured_of(lambda m, x: x + torch.rand(1), X)
    assert any(
        isinstance(node, Opaque) and not node.inputs and captured.program.values[number].place.operator == "rand"
        for number, node in captured.program.nodes.items()
    )


def test_a_wrong_map_is_seen() -> None:
    model, captured = captured_of(lambda m, x: x[:, [1, 0, 2, 3, 4, 5]], X)
    values = evaluate(captured, example_inputs(model, X))
    number = captured.program.outputs[0]
    node = captured.program.nodes[number]
    term = node.terms[0]
    wrong = replace(term.map, index=(0, 1, 2, 3, 4, 5))
    captured.program.nodes[number] = replace(node, terms=(replace(term, map=wrong),))
    with pytest.raises(AssertionError):
        check_nodes(captured, values)
