"""What cannot be captured, and what can be below it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convfold.errors import InvalidArgument
from convfold.graph.capture import below, capture, capture_below, interpret
from convfold.graph.inputs import example_inputs
from support.programs import X, made


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
    with pytest.raises(
        InvalidArgument, match=r"test_capture_refusals.py:\d+ \(if y.sum\(\) > y.sum\(\) \+ 1:\): .* decides"
    ):
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
    with pytest.raises(InvalidArgument, match=r"test_capture_refusals.py:\d+.*" + sentence):
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


class Writes(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv, self.how = nn.Conv2d(3, 3, 1), how

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.how == "view":
            y.diagonal(dim1=2, dim2=3).zero_()
        else:
            torch._foreach_add_([y, y], 1.0)
        return y


@pytest.mark.parametrize(
    ("how", "sentence"),
    [("view", "a write through the view aten.diagonal"), ("list", "aten._foreach_add_.Scalar writes in a way that")],
)
def test_writes_that_have_no_form_without_one(how: str, sentence: str) -> None:
    model = made(Writes(how))
    with pytest.raises(InvalidArgument, match=sentence):
        capture(model, example_inputs(model, X))


def test_more_modules_than_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(below, "_ATTEMPTS", 1)
    found, refusals = capture_below(made(Branch()), example_inputs(Branch(), X))
    assert [path for path, _ in found] == ["body"]
    assert refusals[-1].reason == "2 modules inside it were not tried"


def test_a_size_that_is_not_known() -> None:
    model = made(Reshapes())
    captured = capture(model, example_inputs(model, X))
    values = {captured.program.inputs[0]: X.double()}
    with pytest.raises(InvalidArgument, match="a size is not known from the inputs"):
        interpret(captured, list(captured.program.outputs), values, torch.float64, {})


class Reshapes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], 3, x.shape[2] * x.shape[3]) * 2
