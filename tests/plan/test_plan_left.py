"""plan: what it is given that it cannot use, and that the model is left alone."""

import copy

import pytest
import torch
from torch import Tensor, nn

import convfold
from blocks.contract import operators
from convfold.algebra import Conv
from convfold.errors import InvalidArgument, InvalidType
from plan.mixed import X, mixed
from transform.models import noise, seeded


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


def test_on_meta_tensors_a_plan_is_made_by_modules_and_not_applied() -> None:
    model = mixed().to("meta")
    plan = convfold.plan(model, X.to("meta"))
    assert [r.paths for r in plan.regions] == [("0",), ("2.0", "2.1")]
    assert plan.after.convolutions == 3
    for apply in (plan.apply, lambda: convfold.fold(model, X.to("meta")), lambda: convfold.fold(model)):
        with pytest.raises(InvalidArgument, match=r"^0\.\S+: weights on the meta device have no values\. Load"):
            apply()


def test_operators_after_are_those_of_plain_convolutions() -> None:
    plain = convfold.fold(mixed(), X)
    names = operators(plain, X).names
    assert names.count("convolution") == 3
    assert len([n for n in names if "batch_norm" in n]) == 1
    assert isinstance(convfold.algebra.op(plain[0]), Conv)
