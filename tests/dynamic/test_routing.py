"""The routers are the papers' formulas; what is said of them (constant, neutral, sums to one) is so."""

from __future__ import annotations

import copy

import pytest
import torch

from convfold import dynamic
from convfold.dynamic import TemperatureSchedule
from convfold.errors import InvalidArgument

D = torch.float64


def _input(channels=6):
    torch.manual_seed(0)
    return torch.randn(5, channels, 7, 6, dtype=D)


def test_condconv_is_a_sigmoid_of_a_fully_connected_layer():
    router, x = dynamic.SigmoidRouter(6, 4, dtype=D), _input()
    mean = x.sum((2, 3)) / 42
    expected = 1 / (1 + torch.exp(-(mean @ router.last.weight.T + router.last.bias)))
    torch.testing.assert_close(router(x), expected, rtol=1e-12, atol=0)


def test_dynamicconv_is_squeeze_and_excitation_with_a_softmax():
    router, x = dynamic.AttentionRouter(6, 4, temperature=3.0, dtype=D), _input()
    hidden = (x.mean((2, 3)) @ router.squeeze.weight.T).clamp(min=0)
    logits = (hidden @ router.last.weight.T + router.last.bias) / 3.0
    expected = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    torch.testing.assert_close(router(x), expected, rtol=1e-12, atol=0)
    assert router.squeeze.bias is None
    assert router.squeeze.out_features == 4  # never fewer than the experts: RGB inputs have a width too


def test_dynet_has_a_coefficient_per_expert_and_output_channel():
    router, x = dynamic.ChannelRouter(6, 3, out_channels=5, dtype=D), _input()
    logits = x.mean((2, 3)) @ router.last.weight.T + router.last.bias
    torch.testing.assert_close(router(x), torch.sigmoid(logits).reshape(5, 3, 5), rtol=1e-12, atol=0)


def test_a_shared_router_gives_each_layer_its_part():
    router, x = dynamic.SharedRouter(6, (4, 8), 3, dtype=D), _input()
    first, second = router(x)
    assert first.shape == (5, 3, 4)
    assert second.shape == (5, 3, 8)
    together = torch.cat([first.flatten(1), second.flatten(1)], 1)
    torch.testing.assert_close(together, torch.sigmoid(x.mean((2, 3)) @ router.last.weight.T + router.last.bias))
    same = dynamic.SharedRouter(6, (4, 8), 3, per_channel=False, dtype=D)(x)
    assert same[0] is same[1]
    layer = dynamic.DyNetConv2d(6, 4, 3, num_experts=3, router=None, dtype=D)
    assert layer(x, routing=first).shape == (5, 4, 5, 4)


@pytest.mark.parametrize("kind", ["SigmoidRouter", "AttentionRouter", "ChannelRouter", "UniformRouter"])
def test_constant_neutral_and_sums_to_one(kind):
    options = {"out_channels": 5} if kind == "ChannelRouter" else {}
    router, x = getattr(dynamic.routing, kind)(6, 4, dtype=D, **options), _input()
    learns = kind != "UniformRouter"
    assert (router.constant() is None) == learns
    router.reset()
    torch.testing.assert_close(router(x), torch.full_like(router(x), router.neutral), rtol=1e-12, atol=0)
    if learns:
        router.last.bias.data.normal_()
    constant = router.constant()
    assert constant is not None
    torch.testing.assert_close(router(x), constant.to(D).expand_as(router(x)), rtol=1e-12, atol=0)
    total = router(x).sum(1)
    assert router.sums_to_one == bool(torch.allclose(total, torch.ones_like(total), rtol=1e-9))


def test_a_temperature_is_saved_moved_and_copied():
    layer = dynamic.DynamicConv2d(4, 4, 3)
    TemperatureSchedule(layer, steps=10)
    assert float(layer.router.temperature) == 30.0
    fresh = dynamic.DynamicConv2d(4, 4, 3)
    fresh.load_state_dict(layer.state_dict())
    assert float(fresh.router.temperature) == 30.0
    assert float(copy.deepcopy(layer).router.temperature) == 30.0
    assert layer.double().router.temperature.dtype == D


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [30.0, 20.333333, 10.666667, 1.0, 1.0]),
        ("constant", [30.0] * 5),
        ("cosine", [30.0, 22.75, 8.25, 1.0, 1.0]),
    ],
)
def test_schedules(shape, expected):
    layer = dynamic.DynamicConv2d(4, 4, 3)
    schedule = TemperatureSchedule(layer, steps=3, shape=shape)
    seen = [float(layer.router.temperature)]
    for _ in range(4):
        schedule.step()
        seen.append(float(layer.router.temperature))
    assert seen == pytest.approx(expected, rel=1e-6)


def test_a_schedule_goes_on_where_it_stopped():
    first = dynamic.DynamicConv2d(4, 4, 3)
    schedule = TemperatureSchedule(first, steps=10)
    for _ in range(4):
        schedule.step()
    second = dynamic.DynamicConv2d(4, 4, 3)
    other = TemperatureSchedule(second, steps=3)
    other.load_state_dict(schedule.state_dict())
    assert float(second.router.temperature) == float(first.router.temperature)
    other.step()
    schedule.step()
    assert float(second.router.temperature) == float(first.router.temperature)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"shape": "exponential"}, "shape is unknown"),
        ({"start": 0.0}, "a temperature divides"),
        ({"end": -1.0}, "a temperature divides"),
        ({"steps": 0}, "at least one step"),
    ],
)
def test_bad_schedules(options, sentence):
    with pytest.raises(InvalidArgument, match=sentence):
        TemperatureSchedule(dynamic.DynamicConv2d(4, 4, 3), **options)


def test_a_schedule_needs_attention():
    with pytest.raises(InvalidArgument, match="no attention whose temperature"):
        TemperatureSchedule(dynamic.CondConv2d(4, 4, 3))


@pytest.mark.parametrize("kind", ["CondConv2d", "DynamicConv2d", "DyNetConv2d"])
def test_each_expert_starts_as_a_static_layer(kind):
    torch.manual_seed(1)
    layer = getattr(dynamic, kind)(32, 64, 3)
    bound = (32 * 9) ** -0.5
    assert float(layer.weight.detach().abs().max()) <= bound
    deviation = layer.weight.flatten(1).std(1)
    assert ((deviation / (bound / 3**0.5) - 1).abs() < 0.05).all()
