"""Capturing: calls, in-place writes, constants, sizes; the model stays as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils._pytree import tree_leaves

from convfold.algebra import twin
from convfold.errors import InvalidArgument
from convfold.graph.capture import bind, capture, capture_below, evaluate, functional, interpret
from convfold.graph.captured import Captured, Ref
from convfold.graph.inputs import example_inputs
from convfold.graph.program import Linear, Opaque
from support.make import randomise

X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def made(model: nn.Module) -> nn.Module:
    return randomise(model, torch.Generator().manual_seed(4)).eval()


def check(model: nn.Module, inputs: Any = X, *, others: tuple[Any, ...] = ()) -> Captured:
    """Capture, and compare the steps with the model in float64, at the example's size and at `others`."""
    captured = capture(model, example_inputs(model, inputs))
    exact = twin(model).eval().double()
    for given in (inputs, *others):
        arguments = example_inputs(model, given)
        with torch.no_grad():
            found = arguments.map(lambda t: t.double() if t.is_floating_point() else t).call(exact)
        want = [leaf for leaf in tree_leaves(found) if isinstance(leaf, Tensor)]
        values = evaluate(captured, arguments)
        assert len(want) == len(captured.program.outputs)
        for number, tensor in zip(captured.program.outputs, want, strict=True):
            torch.testing.assert_close(values[number], tensor, rtol=1e-12, atol=1e-12)
    return captured


class Written(nn.Module):
    """A forward that writes in place, by name."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.conv, self.same = how, nn.Conv2d(3, 4, 3, padding=1), nn.Identity()

    def forward(self, x: Tensor) -> Any:
        return getattr(self, self.how)(self.conv(x))

    def whole(self, y: Tensor) -> Tensor:
        F.relu_(y)
        return y * 2

    def through_identity(self, y: Tensor) -> Tensor:
        z = self.same(y)
        z.relu_()
        return y * 2 + z

    def through_view(self, y: Tensor) -> Tensor:
        y.flatten(2).transpose(1, 2).mul_(3)
        return y + 1

    def part(self, y: Tensor) -> Tensor:
        y[:, :2].add_(1)
        return y * 2

    def assigned(self, y: Tensor) -> Tensor:
        y[:, 1] = y[:, 0] * 2
        y[..., ::2] = 0
        return y

    def view_before(self, y: Tensor) -> Tensor:
        view = y.flatten(2)
        y.add_(1)
        return view * 2

    def part_before(self, y: Tensor) -> Tensor:
        left, right = y.chunk(2, 1)
        left.sigmoid_()
        return torch.cat([right, left, y], 1)

    def written_twice(self, y: Tensor) -> Tensor:
        a = y[:, :3]
        b = a[:, 1:]
        b.mul_(2)
        a.add_(1)
        return y + b.sum(1, keepdim=True)

    def copied(self, y: Tensor) -> Tensor:
        old = y.clone()
        y.copy_(y.flip(1))
        return y - old

    def new(self, y: Tensor) -> Tensor:
        mask = torch.zeros(4, 1, 1)
        mask[1:3] = 2.0
        buffer = torch.zeros_like(y)
        buffer[:, 1:] += y[:, 1:]
        return y * mask + buffer

    def narrowed(self, y: Tensor) -> Tensor:
        y.narrow(1, 1, 2).select(1, 0).zero_()
        return y


WRITES = [name for name in vars(Written) if name not in ("__init__", "forward") and not name.startswith("_")]


@pytest.mark.parametrize("how", WRITES)
def test_writes_become_new_values(how: str) -> None:
    check(made(Written(how)), others=(torch.randn(3, 3, 10, 12),))


def test_a_plain_in_place_step_says_what_it_overwrites() -> None:
    captured = check(made(Written("whole")))
    steps = [step for step in captured.steps.values() if step.writes]
    assert [str(step.target) for step in steps] == ["aten.relu_.default"]
    assert str(functional(steps[0]).target) == "aten.relu.default"
    assert not functional(steps[0]).writes


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


def test_constants_are_the_models_own_or_computed_in_the_precision_asked_for() -> None:
    class Composed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.factor = nn.Conv2d(3, 4, 1), nn.Parameter(torch.full((4, 1, 1, 1), 0.1))

        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(self.conv(x), (self.factor * self.conv.weight).transpose(0, 1))

    model = made(Composed())
    captured = check(model)
    assert captured.tensor("conv.weight") is model.conv.weight
    assert captured.names["conv.weight"] == "conv.weight"
    key = captured.program.nodes[captured.program.outputs[0]].terms[0].map.recipe.key
    want = (model.factor.double() * model.conv.weight.double()).transpose(0, 1)
    assert torch.equal(captured.tensor(key, torch.float64), want)
    assert captured.tensor(key).dtype == torch.float32


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


@pytest.mark.parametrize("how", ["parametrized", "weight_norm", "pruned", "spectral"])
def test_weights_that_are_computed(how: str) -> None:
    model = made(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    if how == "parametrized":
        nn.utils.parametrizations.weight_norm(model[0])
    elif how == "weight_norm":
        nn.utils.weight_norm(model[0])
    elif how == "spectral":
        nn.utils.spectral_norm(model[0]).eval()
    else:
        prune.l1_unstructured(model[0], "weight", amount=0.5)
    captured = check(model.eval())
    assert all(isinstance(node, Linear) for node in captured.program.nodes.values())


def test_tied_weights_share_a_key() -> None:
    model = made(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)))
    model[1].weight = model[0].weight
    captured = check(model)
    keys = [node.terms[0].map.recipe.key for node in captured.program.nodes.values()]
    assert keys[0] == keys[1] == "0.weight"


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


class Own(nn.Module):
    """A block that gives its own equation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x).clamp(-1e9, 1e9))  # an operator that the rules do not see through

    def op(self) -> Any:
        from convfold.algebra import Norm, op

        return op(self.conv) >> Norm(self.bn, 2)


def test_a_modules_own_equation_is_an_alternative() -> None:
    model = made(nn.Sequential(Own(), nn.ReLU(), nn.Conv2d(4, 4, 1)))
    captured = check(model)
    (number,) = captured.program.alternatives
    assert number == captured.calls[1].output.value
    node = captured.program.alternatives[number]
    values = evaluate(captured, example_inputs(model, X))
    weight = captured.tensor(node.terms[0].map.recipe.key, torch.float64)
    bias = captured.tensor(node.shift.key, torch.float64)
    got = F.conv2d(values[node.terms[0].source], weight, bias, padding=1)
    torch.testing.assert_close(got, values[number], rtol=1e-12, atol=1e-12)


def test_a_hooked_module_gives_no_alternative() -> None:
    model = made(nn.Sequential(Own()))
    model[0].conv.register_forward_hook(lambda *_: None)
    assert not check(model).program.alternatives


def test_operators_are_counted_as_they_are_executed() -> None:
    class Same(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 4, padding="same")
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).permute(0, 2, 3, 1))

    captured = check(made(Same()))
    assert [captured.program.operators[n] for n in captured.steps] == [2, 0, 1]


def test_references_only_to_earlier_values() -> None:
    captured = check(made(Written("written_twice")))
    for number, step in captured.steps.items():
        assert all(leaf.value < number for leaf in tree_leaves((step.args, step.kwargs)) if isinstance(leaf, Ref))
        assert all(source < number for source in captured.program.nodes[number].inputs)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.blocks = nn.ModuleList([nn.Conv2d(4, 4, 1)])
        self.twice = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if y.sum() > y.sum() + 1:
            y = y * 2
        y = self.blocks[0](y)
        return self.twice(y).sum() + self.twice(y[:, :, 1:]).sum()


def test_a_branch_on_the_data_is_refused_with_its_line() -> None:
    model = made(Branch())
    with pytest.raises(InvalidArgument, match=r"test_capture.py:\d+ \(if y.sum\(\) > y.sum\(\) \+ 1:\): .* decides"):
        capture(model, example_inputs(model, X))


def test_what_stands_below_a_branch_is_captured() -> None:
    model = made(Branch())
    found, refusals = capture_below(model, example_inputs(model, X))
    assert [path for path, _ in found] == ["body", "blocks.0"]
    assert [(r.place, r.reason) for r in refusals] == [
        ("twice", "it is called several times with inputs of different shapes")
    ]
    assert found[0][1].model is model.body


def test_what_cannot_be_captured_below_is_refused_too() -> None:
    model = made(nn.Sequential(nn.Sequential(Branch()), nn.Identity()))
    found, refusals = capture_below(model, example_inputs(model, X))
    assert [path for path, _ in found] == ["0.0.body", "0.0.blocks.0"]
    assert [r.place for r in refusals] == ["0", "0.0", "0.0.twice"]
    assert "decides what is executed" in refusals[0].reason


class Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return y[y > 0]


class Numpy(Sized):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.conv(x).numpy() * 2)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [(Sized(), "aten.index.Tensor has a size that depends on the data"), (Numpy(), "cannot be captured .*numpy")],
)
def test_other_models_that_cannot_be_captured(model: nn.Module, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=r"test_capture.py:\d+.*" + sentence):
        capture(model, example_inputs(model, X))


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (torch.randn(3, 8), r"does not run on these example inputs .*float32 \[3, 8\]"),
        (X.double(), r"does not run on these example inputs .*float64 \[1, 3, 8, 8\]"),
        (torch.randn(1, 4, 8, 8), "does not run on these example inputs"),
    ],
)
def test_inputs_that_the_model_does_not_run_on(inputs: Tensor, sentence: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1))
    with pytest.raises(InvalidArgument, match=sentence):
        capture(model, example_inputs(model, inputs))
    with pytest.raises(InvalidArgument, match=sentence):
        capture_below(model, example_inputs(model, inputs))


def _sparse() -> nn.Module:
    model = nn.Linear(3, 4)
    model.weight = nn.Parameter(model.weight.detach().to_sparse())
    return model


def _buffer(tensor: Tensor) -> nn.Module:
    model = nn.Linear(3, 4)
    model.register_buffer("held", tensor)
    return model


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (_sparse(), "weight: sparse weights are not captured"),
        (nn.Linear(3, 4, device="meta"), "weight: weights on the meta device have no values"),
        (nn.LazyLinear(3), "weight: the parameter has no shape yet"),
        (_buffer(torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)), "held: quantised weights"),
        (nn.Sequential(torch.ao.nn.quantized.Linear(3, 4)), "0: quantised modules are not captured"),
        (_buffer(torch.ones(2).as_subclass(type("Own", (Tensor,), {}))), "held: weights of type Own"),
    ],
)
def test_weights_without_plain_values(model: nn.Module, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        capture(model, example_inputs(model, torch.randn(2, 3)))


def test_a_model_that_cannot_be_copied() -> None:
    model = nn.Linear(3, 4)
    model.rows = (row for row in [1])
    with pytest.raises(InvalidArgument, match="Linear: the model cannot be copied"):
        capture(model, example_inputs(model, torch.randn(2, 3)))
