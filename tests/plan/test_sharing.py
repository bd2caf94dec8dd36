"""What else uses a region's values and weights: hooks, ties, other readers; and what stays alive beside it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from transform.models import noise, relative, seeded

X = noise(2, 4, 9, 9)


def pair(**norm: Any) -> Any:
    return seeded(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4, **norm)))


def reasons(model: nn.Module, x: object = X) -> dict[str, str]:
    return {refusal.place: str(refusal) for refusal in convfold.plan(model, x).refusals}


def paths(model: nn.Module, x: object = X) -> list[tuple[str, ...]]:
    return [region.paths for region in convfold.plan(model, x).regions]


@pytest.mark.parametrize("path", ["0", "1", "0.dense_norm"])
@pytest.mark.parametrize(
    "register", ["register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"]
)
def test_hooks_keep_a_module_as_it_is(register: str, path: str) -> None:
    seen: list[Any] = []

    def watch(module: nn.Module, *rest: Any) -> None:
        seen.append((type(module), [t for item in rest for t in (item if isinstance(item, tuple) else (item,))]))

    x = X.clone().requires_grad_()
    model = seeded(nn.Sequential(blocks.RepVGGConv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)))
    getattr(model.get_submodule(path), register)(watch)
    refusal = "it has a hook, which may change or watch what it computes. Remove the hook."
    text = reasons(model)
    assert refusal in text[path]
    plain = convfold.fold(model, X)
    assert type(plain.get_submodule(path)) is type(model.get_submodule(path))
    # What is watched is the same as before; all around it folds.
    seen.clear()
    outputs = [m(x) for m in (model, plain)]
    for output in outputs:
        output.square().sum().backward()
    assert relative(*outputs) <= 1e-12
    (kind, before), (same, after) = seen
    assert kind is same
    for a, b in zip(before, after, strict=True):
        assert relative(b, a) <= 1e-12
    assert type(plain[1]) is (nn.BatchNorm2d if path == "1" else nn.Identity)
    # Without inputs the region as a whole stays.
    assert refusal in reasons(model, None)[path[0]]
    whole = convfold.fold(model)
    assert isinstance(whole[0], blocks.RepVGGConv2d)
    assert torch.equal(whole(X), model(X))


def test_hooks_elsewhere_stay() -> None:
    model, seen = seeded(nn.Sequential(pair(), nn.ReLU())), []
    model[1].register_forward_hook(lambda module, args, output: seen.append(1))
    plain = convfold.fold(model, X)
    seen.clear()
    plain(X)
    assert seen == [1]
    assert type(plain[0][1]) is nn.Identity


class Tied(nn.Module):
    def __init__(self, tie: str) -> None:
        super().__init__()
        self.a, self.norm_a = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.b, self.norm_b = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        if tie == "kernel":
            self.b.weight = self.a.weight
        else:
            self.norm_b.weight = self.norm_a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.norm_b(self.b(self.norm_a(self.a(x))))


@pytest.mark.parametrize("tie", ["kernel", "norm"])
def test_tied_weights_are_cloned_unless_they_train(tie: str) -> None:
    model = seeded(Tied(tie))
    plain = convfold.fold(model, X)
    assert relative(plain(X), model(X)) <= 1e-12
    assert plain.a.weight is not plain.b.weight
    model.train()
    for norm in (model.norm_a, model.norm_b):
        norm.eval()
    places = ("a", "b") if tie == "kernel" else ("norm_a", "norm_b")
    shared = "its weight is shared with another module and still trained. Call eval() first"
    assert all(shared in reasons(model)[place] for place in places)
    assert set(reasons(model, None)) >= {"a", "b"}
    assert shared in reasons(model, None)["a"]
    assert type(convfold.fold(model).norm_a) is nn.BatchNorm2d
    plain = convfold.fold(model, X)
    assert all(type(plain.get_submodule(place)) is type(model.get_submodule(place)) for place in places)
    assert getattr(plain, places[0]).weight is getattr(plain, places[1]).weight
    model.requires_grad_(False)
    assert paths(model) == [("a", "norm_a"), ("b", "norm_b")]


def joined(output: Any) -> Tensor:
    return torch.cat(list(output.values())) if isinstance(output, dict) else output


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.conv(x)))


class NormTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.norm(self.conv(x)))


class ReadByFunction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv_transpose2d(self.norm(self.conv(x)), self.conv.weight)


class Output(nn.Module):
    """The convolution's own output leaves the model, in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.conv(x)
        return {"logits": self.norm(y), "features": y}


@pytest.mark.parametrize("make", [CalledTwice, NormTwice, ReadByFunction, Output])
def test_values_and_weights_that_are_used_elsewhere_stay_without_inputs(make: Any) -> None:
    model = seeded(make())
    plan = convfold.plan(model)
    assert not plan.regions
    assert plan.refusals
    assert torch.equal(joined(plan.apply()(X)), joined(model(X)))
    if make is ReadByFunction:
        assert "its weights are read outside of its own call too, so they may not change" in str(plan)
    elif make is not NormTwice:
        assert "'conv' is called or read elsewhere too, so its weights may not change" in str(plan)


@pytest.mark.parametrize("make", [ReadByFunction, Output])
def test_values_and_weights_that_are_used_elsewhere_stay(make: Any) -> None:
    model = seeded(make())
    plan = convfold.plan(model, X)
    assert not plan.regions
    assert torch.equal(joined(plan.apply()(X)), joined(model(X)))
    if make is ReadByFunction:
        assert "its weights are read outside of its own call too, so they may not change" in reasons(model)["conv"]
    else:
        assert "it would not be cheaper: +14,112 MACs, +1 convolutions" in reasons(model)["norm"]


@pytest.mark.parametrize(("make", "convolutions"), [(CalledTwice, 2), (NormTwice, 1)])
def test_a_module_called_again_is_cloned_and_folds(make: Any, convolutions: int) -> None:
    model = seeded(make())
    plan = convfold.plan(model, X)
    assert [r.paths for r in plan.regions] == [("conv", "norm")]
    assert not plan.refusals
    plain = plan.apply()
    assert relative(plain(X), model(X)) <= 1e-12
    assert (plan.before.macs, plan.before.convolutions) == (plan.after.macs, plan.after.convolutions)
    assert (plan.after.operators, plan.after.convolutions) == (convolutions, convolutions)
    kinds = [type(m) for m in plain.modules()]
    assert kinds.count(nn.Conv2d) == convolutions
    assert nn.BatchNorm2d not in kinds
    if make is CalledTwice:
        assert torch.equal(plain.conv.weight, model.conv.weight)
        assert torch.equal(plain.conv.bias, model.conv.bias)


def test_parametrised_weights_in_training_are_not_read() -> None:
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4)).double()
    model.train()[1].eval()
    state = copy.deepcopy(model.state_dict())
    assert "its weight is parametrised and in training mode. Call eval() on it first." in reasons(model)["0"]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    model.eval()
    assert paths(model) == [("0", "1")]
    assert relative(convfold.fold(model, X)(X), model(X)) <= 1e-12


def test_weights_kept_with_their_history_can_be_copied() -> None:
    conv = nn.Conv2d(4, 4, 3)
    conv.cached = conv.weight * 2  # what torch's first weight_norm leaves behind after a forward
    model = nn.Sequential(conv, nn.BatchNorm2d(4)).double().eval()
    plain = convfold.fold(model, X)
    assert relative(plain(X), model(X)) <= 1e-12
    assert convfold.verify(model, plain, X)


def test_the_rest_of_the_model_stays_alive() -> None:
    model = seeded(nn.Sequential(pair(), nn.Dropout(0.5), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    model[5].requires_grad_(False)
    plain = convfold.fold(model, X)
    assert {m.training for m in plain.modules()} == {False}
    assert type(plain[3]) is nn.BatchNorm2d
    assert [n for n in plain.state_dict() if not n.startswith("0.")] == [
        n for n in model.state_dict() if not n.startswith("0.")
    ]
    assert [p.requires_grad for p in plain[5].parameters()] == [False, False]
    assert all(p.requires_grad for p in plain[0].parameters())
    plain.train()
    assert not torch.equal(plain(X), plain(X)), "dropout is alive"
    before = plain[3].running_mean.clone()
    plain(X)
    assert not torch.equal(plain[3].running_mean, before)
    assert not {id(p) for p in plain.parameters()} & {id(p) for p in model.parameters()}


def test_a_dropout_folds_through_in_eval_mode_only() -> None:
    model = seeded(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1)))
    plain = convfold.fold(model, X)
    assert [type(m) for m in plain] == [nn.ReLU, nn.Identity, nn.Identity, nn.Conv2d]
    assert relative(plain(X), model(X)) <= 1e-12
    model[2].train()
    kept = convfold.fold(model, X)
    assert [type(m) for m in kept] == [nn.ReLU, nn.BatchNorm2d, nn.Dropout, nn.Conv2d]
    assert not torch.equal(kept(X), kept(X)), "dropout is alive"


class Along(nn.Module):
    """A convolution, and a constant along the width, or along some axes, added to it."""

    def __init__(self, out: int, *shape: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, out, 3, padding=1, bias=False)
        self.register_buffer("along", torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.along


@pytest.mark.parametrize(("out", "shape"), [(9, (9,)), (1, (9,)), (6, (9,)), (9, (9, 1)), (9, (9, 9)), (5, (5, 1, 9))])
def test_a_constant_along_another_axis_is_no_bias_of_a_convolution(out: int, shape: tuple[int, ...]) -> None:
    """As many channels as columns must not make it one either."""
    model = seeded(Along(out, *shape))
    assert relative(convfold.fold(model, X)(X), model(X)) <= 1e-12
