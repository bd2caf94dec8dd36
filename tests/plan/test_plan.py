"""plan: regions, refusals, costs, what is rolled back, and that the model is left alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from convfold.algebra import Op, pointwise
from convfold.algebra.laws import special
from convfold.errors import ConvfoldWarning, NotEqual
from convfold.graph.capture.constants import Constants
from convfold.graph.maps import Map
from convfold.graph.program import Shift
from convfold.graph.weights import Weights
from convfold.plan import by_graph
from convfold.plan import emit as by_modules
from convfold.plan.emission import Emitted
from plan.mixed import X, mixed
from transform.models import noise, relative, seeded


def test_it_prints_regions_refusals_and_costs() -> None:
    plan = convfold.plan(mixed(), X)
    assert [r.paths for r in plan.regions] == [("0",), ("2.0", "2.1"), ("4", "5", "6")]
    assert [r.types for r in plan.regions][:2] == [("DBBConv2d",), ("Conv2d", "BatchNorm2d")]
    assert plan.regions[2].types == ("BatchNorm2d", "Dropout", "Conv2d")
    assert [r.result for r in plan.regions][1:] == [
        "Conv2d(4, 6, kernel_size=(3, 3), stride=(1, 1))",
        "Conv2d(6, 2, kernel_size=(1, 1), stride=(1, 1))",
    ]
    text = str(plan)
    assert "2.0 + 2.1" in text
    assert "Conv2d, BatchNorm2d" in text
    assert "Conv2d(4, 6, 3x3)" in text
    assert "8: BatchNorm2d is not folded: nothing linear stands before it to be folded with." in text
    for name in ("MACs", "convolutions", "operators", "parameters"):
        assert any(line.startswith(name) for line in text.splitlines())
    without = str(convfold.plan(mixed()))
    for place in "48":
        assert f"{place}: BatchNorm2d is not folded: its input does not come straight from a convolution." in without
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


def test_a_plan_without_inputs_knows_no_costs_and_folds_by_modules() -> None:
    model = mixed()
    plan = convfold.plan(model)
    assert [r.paths for r in plan.regions] == [("0",), ("2.0", "2.1")]
    assert plan.before is plan.after is None
    assert all(r.before is r.after is None for r in plan.regions)
    assert relative(plan.apply()(X), model(X)) <= 1e-12


def test_a_wrong_emission_is_noticed_by_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    def keeps_the_norm(captured: Any, after: Any, model: nn.Module, weights: Any) -> Emitted:
        emitted = right(captured, after, model, weights)
        if weights is not None:
            emitted.module[2][1] = nn.BatchNorm2d(6).double().eval()
        return emitted

    right = by_graph.emit
    monkeypatch.setattr(by_graph, "emit", keeps_the_norm)
    plan = convfold.plan(mixed(), X)
    with pytest.raises(NotEqual, match=r"the emitted model does not cost what was planned: got Totals.*fault"):
        plan.apply()


def off_in_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new kernel of six channels is wrong in one weight, by a millionth."""

    def spoil(conv: Any) -> Any:
        if conv.out_channels != 6:
            return conv
        weight = conv.weight.clone()
        weight[0, 0, 0, 0] += 1e-6
        return type(conv)(weight, conv.bias, conv.window, conv.groups, conv.padding_mode)

    class Off(Weights):
        def conv(self, m: Map, dims: int, channels: int) -> Any:
            return spoil(super().conv(m, dims, channels))

    right: Callable[[Op], Any] = by_modules.kernel
    monkeypatch.setattr(by_modules, "kernel", lambda op: spoil(right(op)))
    monkeypatch.setattr(by_graph, "Weights", Off)


def off_in_one_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every new bias of six channels is wrong in its last element, by a millionth."""

    def spoil(bias: Tensor) -> Tensor:
        return bias + 1e-6 * torch.eye(6, dtype=torch.float64)[-1] if bias.shape == (6,) else bias

    class Off(Weights):
        def vector(self, shift: Shift, channels: int) -> Tensor:
            return spoil(super().vector(shift, channels))

    def faulty(op: Op) -> Any:
        conv = right(op)
        bias = None if conv.bias is None else spoil(conv.bias)
        return type(conv)(conv.weight, bias, conv.window, conv.groups, conv.padding_mode)

    right: Callable[[Op], Any] = by_modules.kernel
    monkeypatch.setattr(by_modules, "kernel", faulty)
    monkeypatch.setattr(by_graph, "Weights", Off)


@pytest.mark.parametrize("inputs", [X, None], ids=["inputs", "none"])
@pytest.mark.parametrize("plant", [off_in_one_kernel, off_in_one_bias])
def test_a_planted_fault_is_rolled_back_and_reported(monkeypatch: pytest.MonkeyPatch, plant: Any, inputs: Any) -> None:
    model = mixed()
    plan = convfold.plan(model, inputs)
    plant(monkeypatch)
    with pytest.warns(ConvfoldWarning, match=r"2\.0: Conv2d is not folded: the result was not equal .* rolled back"):
        plain = plan.apply()
    assert type(plain[0]) is nn.Conv2d
    assert type(plain[2][1]) is nn.BatchNorm2d
    assert type(plain[4]) is (nn.BatchNorm2d if inputs is None else nn.Identity)
    assert relative(plain(X), model(X)) <= 1e-12
    rolled = [r for r in plan.refusals if "rolled back" in r.reason]
    assert [r.place for r in rolled] == ["2.0"]
    assert plan.certificates[("0",)]
    assert not plan.certificates[("2.0", "2.1")]
    with pytest.warns(ConvfoldWarning):
        plan.apply()
    assert len([r for r in plan.refusals if "rolled back" in r.reason]) == 1


def forgets_the_mean(norm: Any, dtype: Any = None) -> Any:
    right = special_norm(norm, dtype)
    return type(right)(right.scale, right.shift + right.scale * norm.module.running_mean.to(right.scale), right.dims)


special_norm = special.norm_as_affine


@pytest.mark.parametrize("inputs", [X, None], ids=["inputs", "none"])
def test_a_law_that_forgets_the_mean_is_rolled_back(monkeypatch: pytest.MonkeyPatch, inputs: Any) -> None:
    """The region is compared with what its modules compute, not with a second reading of the same laws."""

    def forgets(self: Constants, key: Any, dtype: Any) -> Any:
        value = value_of(self, key, dtype)
        return value + self(key[2], dtype) * self(key[3], dtype) if key[0] == "norm shift" else value

    model = mixed()
    plan = convfold.plan(model, inputs)
    for place in ("convfold.algebra.readings.tensors", "convfold.algebra.readings.kernel"):
        monkeypatch.setattr(f"{place}.norm_as_affine", forgets_the_mean)
    value_of = Constants._value
    monkeypatch.setattr(Constants, "_value", forgets)
    with pytest.warns(ConvfoldWarning, match="was not equal"):
        plain = plan.apply()
    assert relative(plain(X), model(X)) <= 1e-12
    assert len(plan.certificates) == len(plan.regions)
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
    assert convfold.plan(model, x).refusals[0].reason == "it would not be cheaper: +4,800 MACs"
    assert type(convfold.fold(model, x)[0]) is type(model[0])
