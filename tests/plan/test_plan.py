"""plan: regions, refusals, costs, what is rolled back, and that the model is left alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from blocks.contract import operators
from convfold import blocks
from convfold.algebra import Conv, Op, pointwise
from convfold.algebra.laws import special
from convfold.errors import ConvfoldWarning, InvalidArgument, InvalidType, NotEqual
from convfold.plan import emit as emission
from transform.models import noise, relative, seeded


def mixed() -> Any:
    """A block, a convolution with its norm, one with a hook's worth of trouble, and what is left alone."""
    return seeded(
        nn.Sequential(
            blocks.DBBConv2d(3, 4, 3, padding=1),
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6)),
            nn.ReLU(),
            nn.BatchNorm2d(6),
            nn.Dropout(0.5),
            nn.Conv2d(6, 2, 1),
        )
    )


X = noise(2, 3, 9, 9)


def test_it_prints_regions_refusals_and_costs() -> None:
    plan = convfold.plan(mixed(), X)
    assert [r.paths for r in plan.regions] == [("0",), ("2.0", "2.1")]
    assert [r.types for r in plan.regions] == [("DBBConv2d",), ("Conv2d", "BatchNorm2d")]
    text = str(plan)
    assert "2.0 + 2.1" in text
    assert "Conv2d + BatchNorm2d" in text
    assert "Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1))" in text
    assert "4: BatchNorm2d is not folded: its input does not come straight from a convolution." in text
    for name in ("MACs", "convolutions", "operators", "parameters"):
        assert any(line.startswith(name) for line in text.splitlines())
    without = str(convfold.plan(mixed()))
    assert "Costs: unknown without example inputs." in without
    assert "unknown" in without
    nothing = str(convfold.plan(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), X.float()))
    assert nothing.startswith("Nothing folds.")


def test_planned_costs_are_what_is_emitted() -> None:
    model = mixed()
    plan = convfold.plan(model, X)
    plain = plan.apply()
    for name in ("macs", "convolutions", "operators", "params"):
        assert getattr(plan.after, name) == getattr(convfold.cost(plain, X), name)
        assert getattr(plan.before, name) == getattr(convfold.cost(model, X), name)
        assert getattr(plan.after, name) <= getattr(plan.before, name)
    assert plan.after.convolutions == 3
    for region in plan.regions:
        assert region.before is not None
        assert region.after is not None
        assert region.after.convolutions == 1
        assert region.after.macs <= region.before.macs
    assert sum(r.before.macs - r.after.macs for r in plan.regions) == plan.before.macs - plan.after.macs
    assert relative(plain(X), model(X)) <= 1e-12


def test_a_plan_without_inputs_knows_no_costs_and_folds_the_same() -> None:
    model = mixed()
    plan = convfold.plan(model)
    assert plan.before is plan.after is None
    assert all(r.before is r.after is None for r in plan.regions)
    assert relative(plan.apply()(X), model(X)) <= 1e-12


def test_a_wrong_emission_is_noticed_by_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = convfold.plan(mixed(), X)
    monkeypatch.setattr(emission, "nothing_like", lambda module: nn.BatchNorm2d(module.num_features).double())
    with pytest.raises(NotEqual, match=r"the emitted model does not cost what was planned: got Totals.*fault"):
        plan.apply()


def forgets_the_mean(norm: Any, dtype: Any = None) -> Any:
    right = special_norm(norm, dtype)
    return type(right)(right.scale, right.shift + right.scale * norm.module.running_mean.to(right.scale), right.dims)


special_norm = special.norm_as_affine


def test_a_planted_fault_is_rolled_back_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mixed()
    plan = convfold.plan(model, X)

    def faulty(op: Op) -> Any:
        conv = right(op)
        if conv.out_channels == 6:
            weight = conv.weight.clone()
            weight[0, 0, 0, 0] += 1e-6
            return type(conv)(weight, conv.bias, conv.window, conv.groups, conv.padding_mode)
        return conv

    right: Callable[[Op], Any] = emission.kernel
    monkeypatch.setattr(emission, "kernel", faulty)
    with pytest.warns(ConvfoldWarning, match=r"2\.0: Conv2d is not folded: the result was not equal .* rolled back"):
        plain = plan.apply()
    assert type(plain[0]) is nn.Conv2d
    assert type(plain[2][1]) is nn.BatchNorm2d
    assert relative(plain(X), model(X)) <= 1e-12
    rolled = [r for r in plan.refusals if "rolled back" in r.reason]
    assert [r.place for r in rolled] == ["2.0"]
    assert plan.certificates[("0",)]
    assert not plan.certificates[("2.0", "2.1")]
    with pytest.warns(ConvfoldWarning):
        plan.apply()
    assert len([r for r in plan.refusals if "rolled back" in r.reason]) == 1


def test_a_law_that_forgets_the_mean_is_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The region is compared with what its modules compute, not with a second reading of the same laws."""
    model = mixed()
    plan = convfold.plan(model, X)
    for place in ("convfold.algebra.readings.tensors", "convfold.algebra.readings.kernel"):
        monkeypatch.setattr(f"{place}.norm_as_affine", forgets_the_mean)
    with pytest.warns(ConvfoldWarning, match="was not equal"):
        plain = plan.apply()
    assert relative(plain(X), model(X)) <= 1e-12
    assert not any(plan.certificates.values())


def test_a_forward_that_is_not_its_op_is_rolled_back() -> None:
    class Louder(blocks.RepVGGConv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).relu()

    model = seeded(nn.Sequential(Louder(3, 4, 3)))
    with pytest.warns(ConvfoldWarning, match=r"a forward does not compute what its op\(\) says"):
        plain = convfold.fold(model, X)
    assert torch.equal(plain(X), model(X))


def test_modules_with_an_equation_of_their_own() -> None:
    class Mine(nn.Module):
        """Not a parameter in it, and no window."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", noise(3, 3))

        def op(self) -> Op:
            return pointwise(self.weight, None, 2) >> pointwise(self.weight, None, 2)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, (self.weight @ self.weight)[..., None, None])

    class Attribute(nn.Module):
        """Its `op` is a module, no equation."""

        def __init__(self) -> None:
            super().__init__()
            self.op = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.op(x).relu()

    mine, attribute = Mine().eval(), seeded(Attribute())
    assert relative(convfold.plan(mine).apply()(X), mine(X)) <= 1e-12
    assert type(convfold.fold(nn.Sequential(mine), X)[0]) is nn.Conv2d
    assert relative(convfold.fold(attribute, X)(X), attribute(X)) <= 1e-12
    assert [r.paths for r in convfold.plan(attribute).regions] == [("op.0", "op.1")]


def dearer() -> Any:
    class Bottleneck(nn.Module):
        """A linear bottleneck: cheaper as it is."""

        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Parameter(noise(2, 16)), nn.Parameter(noise(16, 2))

        def op(self) -> Op:
            return pointwise(self.down, None, 2) >> pointwise(self.up, None, 2)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(nn.functional.conv2d(x, self.down[..., None, None]), self.up[..., None, None])

    return Bottleneck().eval()


def test_what_would_get_dearer_is_left_alone() -> None:
    model, x = nn.Sequential(dearer()), noise(1, 16, 5, 5)
    for inputs in (x, None):
        plan = convfold.plan(model, inputs)
        assert not plan.regions
        assert plan.refusals[0].reason.startswith("it would not be cheaper: ")
        assert "block.fold() folds it all the same" in str(plan)
    assert "1,600 -> 6,400 MACs, 2 -> 1 operators" in str(convfold.plan(model, x))
    assert type(convfold.fold(model, x)[0]) is type(model[0])


def test_wrong_arguments() -> None:
    with pytest.raises(InvalidType, match=r"plan reads modules: got Tensor, expected torch\.nn\.Module"):
        convfold.plan(X)  # type: ignore[arg-type]
    with pytest.raises(
        InvalidArgument, match=r"Sequential: the model does not run on these example inputs .*float64 \[1"
    ):
        convfold.plan(mixed(), noise(1, 4, 9, 9))
    with pytest.raises(InvalidArgument, match=r"0\.weight: the parameter has no shape yet\. Run the lazy module once"):
        convfold.plan(nn.Sequential(nn.LazyConv2d(4, 3)))


def test_the_model_is_left_bit_identical() -> None:
    class Counting(nn.Module):
        """An eval forward that writes a buffer: a recorded run must not be seen."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.norm(self.conv(x))

    model = seeded(Counting())
    model.weighted = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 3, 3)).double().train()
    state = copy.deepcopy(model.state_dict())
    flags, attributes = [m.training for m in model.modules()], {n: list(vars(m)) for n, m in model.named_modules()}
    plan = convfold.plan(model, X)
    plan.apply()
    convfold.plan(model)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == flags
    assert {n: list(vars(m)) for n, m in model.named_modules()} == attributes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_planning_works_on_meta_tensors() -> None:
    model = mixed().to("meta")
    plan = convfold.plan(model, X.to("meta"))
    assert [r.paths for r in plan.regions] == [("0",), ("2.0", "2.1")]
    assert plan.after.convolutions == 3


def test_operators_after_are_those_of_plain_convolutions() -> None:
    plain = convfold.fold(mixed(), X)
    names = operators(plain, X).names
    assert names.count("convolution") == 3
    assert len([n for n in names if "batch_norm" in n]) == 1
    assert isinstance(convfold.algebra.op(plain[0]), Conv)
