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


def test_hooks_keep_a_region_as_it_is() -> None:
    def watch(module: nn.Module, *rest: Any) -> None:
        return None

    for path in ("0", "1", "0.dense_norm"):
        for register in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
            model = seeded(nn.Sequential(blocks.RepVGGConv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)))
            getattr(model.get_submodule(path), register)(watch)
            text = reasons(model)
            assert "it has a hook, which may change or watch what it computes. Remove the hook." in text[path[0]]
            plain = convfold.fold(model, X)
            assert isinstance(plain[0], blocks.RepVGGConv2d)
            assert torch.equal(plain(X), model(X))


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
    assert set(reasons(model)) >= {"a", "b"}
    assert "its weight is shared with another module and still trained. Call eval() first" in reasons(model)["a"]
    assert type(convfold.fold(model, X).norm_a) is nn.BatchNorm2d
    model.requires_grad_(False)
    assert paths(model) == [("a", "norm_a"), ("b", "norm_b")]


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


@pytest.mark.parametrize("inputs", [X, None], ids=["inputs", "none"])
@pytest.mark.parametrize("make", [CalledTwice, NormTwice, ReadByFunction, Output])
def test_values_and_weights_that_are_used_elsewhere(make: Any, inputs: Any) -> None:
    model = seeded(make())
    plan = convfold.plan(model, inputs)
    assert not plan.regions
    assert plan.refusals
    a, b = model(X), plan.apply()(X)
    if isinstance(a, dict):
        a, b = torch.cat(list(a.values())), torch.cat(list(b.values()))
    assert torch.equal(a, b)
    if make is ReadByFunction:
        assert "its weights are read outside of its own call too, so they may not change" in str(plan)
    elif make is not NormTwice:
        assert "'conv' is called or read elsewhere too, so its weights may not change" in str(plan)


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
    model = seeded(nn.Sequential(pair(), nn.Dropout(0.5), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)))
    model[4].requires_grad_(False)
    plain = convfold.fold(model, X)
    assert {m.training for m in plain.modules()} == {False}
    assert type(plain[3]) is nn.BatchNorm2d
    assert [n for n in plain.state_dict() if not n.startswith("0.")] == [
        n for n in model.state_dict() if not n.startswith("0.")
    ]
    assert [p.requires_grad for p in plain[4].parameters()] == [False, False]
    assert all(p.requires_grad for p in plain[0].parameters())
    plain.train()
    assert not torch.equal(plain(X), plain(X)), "dropout is alive"
    before = plain[3].running_mean.clone()
    plain(X)
    assert not torch.equal(plain[3].running_mean, before)
    assert not {id(p) for p in plain.parameters()} & {id(p) for p in model.parameters()}
