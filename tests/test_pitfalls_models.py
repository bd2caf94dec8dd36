"""Faults met in public implementations of folds of whole models, each a row of its own.

What a row needs at length has its tests beside the part it concerns; here is the short form that would have caught it.
"""

import ast
import copy
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from blocks.contract import operators
from convfold import blocks
from convfold.algebra import op
from convfold.errors import InvalidArgument, NotFoldable
from support.names import ANYWHERE
from transform.models import noise, relative, seeded

NAMES = ANYWHERE
BRANCHED = ["acnet", "dbb", "mobileone", "repvgg"]
X = noise(2, 4, 9, 8)


def block(name: str, *arguments: Any, **options: Any) -> Any:
    return seeded(blocks.build(name, 2, *(arguments or (4, 4, 3)), **{"padding": 1, **options}))


def test_pitfall_01_a_fold_in_training_mode() -> None:
    for name in BRANCHED:
        module = block(name).train()
        for fold in (module.fold, lambda module=module: convfold.fold(module, X)):
            with pytest.raises(NotFoldable, match="training mode"):
                fold()
        frozen = nn.Sequential(module.eval(), nn.Dropout()).train()
        frozen[0].eval()
        assert type(convfold.fold(frozen, X)[0]) is nn.Conv2d


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_06_a_perturbed_fold_is_seen(name: str) -> None:
    module = block(name)
    plain = module.fold()
    assert convfold.verify(module, plain, X)
    for tensor in plain.parameters():
        other = copy.deepcopy(plain)
        with torch.no_grad():
            dict(other.named_parameters())["weight" if tensor.dim() > 1 else "bias"].view(-1)[-1] += 1e-3
        assert not convfold.verify(module, other, X)


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_09_the_root_itself_nested_and_shared(name: str) -> None:
    module = block(name)
    assert type(convfold.fold(module, X)) is nn.Conv2d
    shared = nn.Sequential(module, nn.Sequential(nn.ReLU(), module))
    plain = convfold.fold(shared, X)
    assert plain[0] is plain[1][1]
    assert relative(plain(X), shared(X)) <= 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_10_folding_twice(name: str) -> None:
    once = convfold.fold(nn.Sequential(block(name), nn.BatchNorm2d(4).double().eval()), X)
    twice = convfold.fold(once, X)
    assert repr(once) == repr(twice)
    assert all(torch.equal(twice.state_dict()[key], value) for key, value in once.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_11_folded_parameters_still_train(name: str) -> None:
    plain = convfold.fold(nn.Sequential(block(name)), X)
    assert all(p.requires_grad and p.is_leaf for p in plain.parameters())
    before = plain(X)
    before.square().sum().backward()
    torch.optim.SGD(plain.parameters(), lr=1e-3).step()
    assert relative(plain(X), before) > 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_pitfall_26_folding_does_not_need_an_earlier_pass(name: str) -> None:
    model = nn.Sequential(block(name), nn.ReLU(), seeded(nn.Conv2d(4, 4, 3)), seeded(nn.BatchNorm2d(4)))
    whole = convfold.fold(model, X)
    before = copy.deepcopy(model)
    before[0] = before[0].fold()  # what another pass has done already
    assert relative(whole(X), model(X)) <= 1e-12
    assert relative(convfold.fold(before, X)(X), model(X)) <= 1e-12
    assert repr(convfold.fold(before, X)) == repr(whole)


def test_pitfall_32_the_scale_of_a_transposed_convolution() -> None:
    for groups, outputs in product((1, 2, 4), (4, 8)):
        model = seeded(nn.Sequential(nn.ConvTranspose2d(4, outputs, 3, 2, groups=groups), nn.BatchNorm2d(outputs)))
        plain = convfold.fold(model, X)
        assert relative(plain(X), model(X)) <= 1e-12
        assert type(plain[1]) is nn.Identity


def test_pitfall_33_a_norm_before_a_transposed_convolution_stays() -> None:
    model = seeded(nn.Sequential(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 3, 2)))
    plan = convfold.plan(model, X)
    assert not plan.regions
    assert torch.equal(plan.apply()(X), model(X))


def test_pitfall_34_no_global_choices_and_no_prints(capfd: pytest.CaptureFixture[str]) -> None:
    made = [
        blocks.build(name, 2, 4, 4, 3, conv=inner) for name, inner in (("dbb", None), ("dbb", "acnet"), ("dbb", None))
    ]
    assert [type(m.dense) for m in made] == [nn.Conv2d, blocks.ACNetConv2d, nn.Conv2d]
    for name in NAMES:
        model = nn.Sequential(block(name))
        plain = convfold.fold(model, X)
        convfold.verify(model, plain, X)
        convfold.expand(plain, name, where="*")
    assert capfd.readouterr() == ("", "")


class TwiceCalled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.tied = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.tied.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.norm(self.conv(self.conv(x))))


def test_pitfall_39_a_convolution_called_twice() -> None:
    model = seeded(TwiceCalled())
    state = copy.deepcopy(model.state_dict())
    for inputs in (X, None):
        plain = convfold.fold(model, inputs)
        assert relative(plain(X), model(X)) <= 1e-12
        assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())
        with pytest.raises(InvalidArgument, match="its weight is shared with another module"):
            convfold.expand(model, "repvgg", example_inputs=inputs)


def test_pitfall_40_executed_norms_are_counted() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            n = self.norm
            return nn.functional.batch_norm(self.conv(x), n.running_mean, n.running_var, n.weight, n.bias)

    model = seeded(nn.Sequential(block("dbb"), Functional(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)))
    plan = convfold.plan(model, X)
    names = operators(plan.apply(), X).names
    # The graph shows the functional call for what it is.
    assert set(names) == {"convolution"}
    assert plan.after.operators == convfold.cost(plan.apply(), X).operators
    assert not plan.refusals
    assert relative(plan.apply()(X), model(X)) <= 1e-12
    # Modules do not: it stays, is seen to stay, and is told.
    blind = convfold.plan(model)
    assert len([n for n in operators(blind.apply(), X).names if "batch_norm" in n]) == 1
    assert {r.place for r in blind.refusals} == {"1.norm"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_pitfall_41_a_fold_keeps_its_dtype(dtype: torch.dtype) -> None:
    layers = [block(name) for name in NAMES]
    model = nn.Sequential(
        *layers, nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 4, 2), nn.BatchNorm2d(4)
    )
    model = model.to(dtype).eval()
    plain = convfold.fold(model, X.to(dtype))
    assert {p.dtype for p in plain.parameters()} == {dtype}
    assert plain(X.to(dtype)).dtype == dtype


class Linear(nn.Module):
    """A module that gives its equation, and runs it as written."""

    def __init__(self, build: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(build)

    def op(self) -> Any:
        first, second = self.layers
        return op(first) >> op(second)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.layers
        return second(first(x))


def test_pitfall_43_what_would_get_slower_is_left_alone() -> None:
    separable = Linear([nn.Conv2d(16, 16, 3, groups=16, bias=False), nn.Conv2d(16, 16, 1)])
    bottleneck = Linear([nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)])
    for model in (seeded(separable), seeded(bottleneck)):
        for inputs in (noise(1, 16, 8, 8), None):
            assert not convfold.plan(model, inputs).regions
            assert "it would not be cheaper" in str(convfold.plan(model, inputs))
    widening = seeded(Linear([nn.Conv2d(8, 32, 1), nn.Conv2d(32, 8, 1)]))
    assert convfold.plan(widening, noise(1, 8, 8, 8)).regions
    assert type(convfold.fold(widening)) is nn.Conv2d


def test_pitfall_05_every_comparison_is_asserted() -> None:
    """A comparison whose value nobody looks at proves nothing; sums of elements cancel."""
    found: list[str] = []
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                name = getattr(node.value.func, "attr", getattr(node.value.func, "id", ""))
                if name in ("allclose", "equal", "isclose"):
                    found.append(f"{path.name}:{node.lineno}")
    assert not found


def test_pitfall_44_a_bias_that_is_not_a_constant_is_not_folded() -> None:
    padded = seeded(Linear([nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)]))
    with pytest.raises(NotFoldable, match="the first one's response is not zero"):
        convfold.kernel(padded)
    assert torch.equal(convfold.fold(padded, X)(X), padded(X))
    assert not convfold.plan(padded, X).regions
