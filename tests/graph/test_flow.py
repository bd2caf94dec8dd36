"""Example inputs, and who reads whose output: by a recorded run, a trace, or containers alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convfold.algebra import twin
from convfold.errors import InvalidArgument, InvalidType
from convfold.graph import describe, example_inputs, flow_of

X = torch.zeros(2, 3, 8, 8)


class Forks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        a = self.a(x)
        return self.norm(a) + self.c(self.b(x * scale))


@pytest.mark.parametrize("inputs", [X, None], ids=["recorded", "traced"])
def test_readers(inputs: Any) -> None:
    flow = flow_of(Forks(), inputs)
    assert flow.how == ("a symbolic trace" if inputs is None else "a recorded run")
    assert {path: flow.reader(path) for path in ("a", "b", "c", "norm")} == {
        "a": "norm",
        "b": "c",
        "c": None,
        "norm": None,
    }
    assert [call.shape for call in flow.of("a")] == [None if inputs is None else (2, 3, 8, 8)]
    assert flow.exposed == set()


def test_containers_alone_are_certain_of_neighbours_only() -> None:
    class Loops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shared = nn.Conv2d(3, 3, 1)
            self.body = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.BatchNorm2d(3))
            self.twice = nn.Sequential(shared, nn.BatchNorm2d(3), shared)

        def forward(self, x: Tensor) -> Tensor:
            while float(x.sum()) > 0:
                x = self.body(x)
            return self.twice(x)

    flow = flow_of(Loops())
    assert flow.how == "nn.Sequential containers"
    assert [flow.reader(path) for path in ("body.0", "body.1", "body.3")] == ["body.1", None, None]
    assert flow.reader("twice.0") is None


def test_in_place_writes_and_views_are_uses() -> None:
    class Writes(nn.Module):
        def __init__(self, write: Any) -> None:
            super().__init__()
            self.conv, self.norm, self.write = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), write

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.norm(self.write(y))

    def crop(y: Tensor) -> Tensor:
        y[:, 0] = 0
        return y

    for write in (torch.relu_, crop, lambda y: y.view_as(y), lambda y: y.mul_(2)):
        assert flow_of(Writes(write), X).reader("conv") is None
    assert flow_of(Writes(lambda y: y), X).reader("conv") == "norm"


def test_weights_that_are_read_outside_their_module() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.conv(x)) * self.conv.weight.sum() + self.norm.running_mean.sum()

    for inputs in (X, None):
        assert flow_of(Reads(), inputs).exposed == {"conv", "norm"}


@pytest.mark.parametrize("inputs", [X, None], ids=["recorded", "traced"])
def test_a_hook_on_a_container_sees_what_crosses_its_border(inputs: Any) -> None:
    def made(watched: str) -> nn.Module:
        inner = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
        model = nn.Sequential(inner, nn.BatchNorm2d(3))
        model.get_submodule(watched).register_forward_hook(lambda module, args, output: None)
        return model

    assert [flow_of(made(""), inputs).reader(path) for path in ("0.0", "0.2")] == ["0.1", "1"]
    assert [flow_of(made("0"), inputs).reader(path) for path in ("0.0", "0.2")] == ["0.1", None]


def test_the_run_is_in_eval_mode_and_leaves_no_trace() -> None:
    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Any:
            y = self.conv(x)
            return (self.norm(y), y) if self.training else self.norm(y)

    model = Auxiliary().train()
    for inputs in (X, None):
        assert flow_of(model, inputs).reader("conv") == "norm"
        assert all(m.training for m in model.modules())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_example_inputs_have_names() -> None:
    model = Forks()
    assert list(example_inputs(model, X).named()) == ["input 0 ('x')"]
    assert list(example_inputs(model, {"x": X, "scale": 2.0}).named()) == ["input 'x'", "input 'scale'"]
    assert example_inputs(model, (X,)).map(lambda t: t.double()).args[0].dtype == torch.float64
    assert describe((X, [X.half()])) == "float32 [2, 3, 8, 8], float16 [2, 3, 8, 8]"
    assert describe("text") == "str"


@pytest.mark.parametrize(
    ("inputs", "kind", "sentence"),
    [
        (
            [X],
            InvalidType,
            r"example inputs are of the wrong type: got list, expected a tensor, .*\(\[a, b\],\)",
        ),
        ({1: X}, InvalidType, "example inputs are of the wrong type: got dict"),
        ((X, X), InvalidArgument, r"Forks\.forward: the model does not take these example inputs .*got 2 positional"),
        ({"y": X}, InvalidArgument, r"got 0 positional and y, expected forward\(x"),
        (
            X.double(),
            InvalidArgument,
            r"Forks: the model does not run on these .*input 0 \('x'\): float64",
        ),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        flow_of(Forks(), inputs)


def test_a_twin_shares_nothing() -> None:
    model = Forks()
    model.cached = model.a.weight * 2
    copied = twin(model)
    assert torch.equal(copied.cached, model.cached)
    own = {t.data_ptr() for t in (*model.parameters(), *model.buffers(), model.cached)}
    assert not own & {t.data_ptr() for t in (*copied.parameters(), *copied.buffers(), copied.cached)}
