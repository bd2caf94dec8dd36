"""Capturing: calls of modules, sizes, inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.graph.capture import bind, capture, evaluate, interpret
from convfold.graph.inputs import example_inputs
from convfold.graph.program import Linear, Opaque
from support.make import randomise
from support.programs import X, check, made


@dataclass
class Both:
    """What a forward may return."""

    features: Tensor
    rest: dict[str, Any]


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.skip = nn.Identity()

    def forward(self, x: Tensor, factor: float, *, more: tuple[Tensor, ...] = ()) -> Both:
        return Both(self.conv(self.skip(x)) * factor, {"more": [*more, 3], "x": x})


class Calls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 4, 3), Inner()
        self.drop = nn.Sequential(nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        one = self.inner(y, 2.0)
        two = self.inner(one.features, 0.5, more=(y,))
        return self.drop(two.features) + one.rest["x"] + two.rest["more"][0]


def test_calls_of_modules_are_recorded() -> None:
    captured = check(made(Calls()))
    paths = [call.path for call in captured.calls]
    body = ["inner", "inner.skip", "inner.conv"]
    assert paths == ["", "stem", *body, *body, "drop", "drop.0"]
    assert [call.number for call in captured.calls] == list(range(10))
    parents = [None if call.parent is None else paths[call.parent] for call in captured.calls]
    assert parents == [None, "", "", "inner", "inner", "", "inner", "inner", "", "drop"]
    first, second = (call for call in captured.calls if call.path == "inner")
    stem = captured.calls[1]
    assert first.args == (stem.output, 2.0)
    assert second.args[0] == first.output.features
    assert second.kwargs == {"more": (stem.output,)}
    assert second.output.rest["more"][1] == 3


def test_what_a_call_gives_back_as_it_came_is_a_value_of_its_own() -> None:
    captured = check(made(Calls()))
    skip = next(call for call in captured.calls if call.path == "inner.skip")
    assert skip.output != skip.args[0]
    node = captured.program.nodes[skip.output.value]
    assert isinstance(node, Linear)
    assert node.inputs == (skip.args[0].value,)
    assert captured.program.operators[skip.output.value] == 0
    assert captured.home[skip.output.value] == skip.number
    drop = next(call for call in captured.calls if call.path == "drop.0")
    outer = next(call for call in captured.calls if call.path == "drop")
    assert drop.output == outer.output != drop.args[0]


def test_values_know_their_home_and_their_place() -> None:
    captured = check(made(Calls()))
    convs = [n for n, v in enumerate(captured.program.values) if v.place.kind == "Conv2d"]
    assert [captured.program.values[n].place.module for n in convs] == ["stem", "inner.conv", "inner.conv"]
    assert [captured.calls[captured.home[n]].path for n in convs] == ["stem", "inner.conv", "inner.conv"]
    place = captured.program.values[convs[0]].place
    assert place.operator == "conv2d"
    assert "test_capture.py:" in place.line
    assert captured.program.values[captured.program.outputs[0]].place.module == ""


def test_shapes_are_those_of_the_example_and_sizes_stay_open() -> None:
    model = made(Calls())
    captured = check(model, others=(torch.randn(3, 3, 9, 20),))
    assert captured.limits == ()
    stem = captured.calls[1].output.value
    assert captured.program.values[stem].shape == (1, 4, 6, 6)
    assert [str(size).startswith("s") for size in captured.sizes[stem]] == [True, False, True, True]
    assert bind(captured, [torch.zeros(5, 3, 9, 20)]) != captured.example


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.head = nn.Linear(4 * 64, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).flatten(1))


class Partitions(nn.Module):
    """Cuts its map into partitions of 3x4, behind a stride."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        n, c, h, w = y.shape
        y = y.reshape(n, c, h // 3, 3, w // 4, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 48).tanh()
        return y.reshape(n, h // 3, w // 4, c, 3, 4).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)


def test_partitions_of_an_open_map_stay_open() -> None:
    model = Partitions().eval()
    captured = capture(model, example_inputs(model, torch.randn(1, 3, 12, 16)))
    assert captured.limits == ()
    assert captured.program.values[captured.program.outputs[0]].shape == (1, 4, 6, 8)
    other = torch.randn(2, 3, 18, 24)
    found = evaluate(captured, example_inputs(model, other), torch.float32)
    torch.testing.assert_close(found[captured.program.outputs[0]], model(other))


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


def test_the_exporters_settings_are_put_back() -> None:
    settings = torch.fx.experimental._config
    before = settings.backed_size_oblivious
    capture(nn.ReLU(), example_inputs(nn.ReLU(), torch.ones(1, 2)))
    assert settings.backed_size_oblivious == before
    with pytest.raises(InvalidArgument, match="decides what is executed"):
        capture(Branches(), example_inputs(Branches(), torch.ones(1, 2)))
    assert settings.backed_size_oblivious == before


def test_sizes_that_the_model_fixes_are_named() -> None:
    model = made(Fixed())
    captured = check(model, others=(torch.randn(4, 3, 8, 8),))
    assert captured.limits == ("Captured at fixed sizes: tensor input 0 of shape [1, 3, 8, 8], axes 2, 3.",)
    with pytest.raises(InvalidArgument, match="does not hold for inputs of this size"):
        evaluate(captured, example_inputs(model, torch.randn(1, 3, 9, 8)))


class BatchOfOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(3, 8, 8) * 2


def test_a_model_for_a_batch_of_one() -> None:
    captured = check(BatchOfOne())
    assert "axes 0" in captured.limits[0]


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor, *, other: dict[str, Tensor], flag: bool = False) -> dict[str, Any]:
        y = self.conv(x)
        return {"sum": y + other["z"] if flag else y, "same": x, "constant": self.conv.bias, "text": "a"}


def test_several_inputs_and_outputs() -> None:
    model = made(Two())
    inputs = {"x": X, "other": {"z": X * 2}, "flag": True}
    captured = check(model, inputs)
    assert len(captured.program.inputs) == 2
    assert len(captured.program.outputs) == 3


class Autocast(nn.Module):
    def __init__(self, enabled: bool) -> None:
        super().__init__()
        self.conv, self.enabled = nn.Conv2d(3, 3, 1), enabled

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=self.enabled):
            y = self.conv(x) * 2
        with torch.no_grad():
            return y + 1


def test_regions_that_only_wrap_are_taken_in() -> None:
    captured = check(made(Autocast(False)))
    assert not any(isinstance(node, Opaque) for node in captured.program.nodes.values())
    assert [call.path for call in captured.calls] == ["", "conv"]


def test_an_enabled_autocast_is_opaque() -> None:
    model = made(Autocast(True))
    captured = capture(model, example_inputs(model, X))
    values = evaluate(captured, example_inputs(model, X), None)
    torch.testing.assert_close(values[captured.program.outputs[0]], model(X))
    assert [call.path for call in captured.calls] == [""]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def test_one_tensor_given_twice_stays_one() -> None:
    check(made(Attention()), torch.randn(2, 5, 8))


def test_the_model_stays_as_it_was() -> None:
    model = randomise(Calls(), torch.Generator().manual_seed(1)).train()
    model.inner.eval()
    fired: list[str] = []
    model.stem.register_forward_hook(lambda *_: fired.append("hook"))
    model.inner.register_forward_pre_hook(lambda *_: fired.append("pre"))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    keys = {path: dict(vars(module)) for path, module in model.named_modules()}
    captured = capture(model, example_inputs(model, X))
    assert captured.model is model
    assert captured.hooked == {"stem", "inner"}
    assert fired == []
    assert model.training
    assert model.stem.training
    assert not model.inner.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(vars(module).keys() == keys[path].keys() for path, module in model.named_modules())
    assert "forward" not in vars(model)


def test_a_part_is_interpreted_from_known_values() -> None:
    model = made(Calls())
    captured = check(model)
    first, second = (call for call in captured.calls if call.path == "inner")
    start, end = first.output.features.value, second.output.features.value
    values = evaluate(captured, example_inputs(model, X))
    got = interpret(captured, [end], {start: values[start]}, torch.float64)
    assert torch.equal(got[end], values[end])
    with pytest.raises(InvalidArgument, match="is not among the known values"):
        interpret(captured, [end], {}, torch.float64)
