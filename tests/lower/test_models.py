"""Whole models: what is replaced, what stays, and what is said of it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import convfold
from convfold import blocks, errors
from convfold.transform.lower import Pointwise, Target, lower, targets
from convfold.transform.lower.steps import LastAxis, Shuffle
from convfold.zoo import open_model
from support.make import randomise

X = torch.randn(1, 4, 9, 10)


def one_by_ones(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:mobilenet_v2", "torchvision:shufflenet_v2_x0_5"])
def test_known_models_cost_the_same_and_stay_as_they_are(name: str) -> None:
    model = open_model(name)[0].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(1, 3, 64, 64)
    lowered, report = lower(model, x, "no-1x1", report=True)
    assert report.reached
    assert report.rows
    assert not one_by_ones(lowered)
    assert one_by_ones(model)
    assert report.macs_after == report.macs_before == convfold.cost(model, x).macs == convfold.cost(lowered, x).macs
    assert all(row.macs_after == row.macs_before and row.error <= row.bound < 1e-12 for row in report.rows)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in before.items())
    assert "Matrix products on vectors stay" in report.notes[0]


@pytest.mark.parametrize("target", targets())
def test_every_target_is_reached_on_a_network_with_everything(target: str) -> None:
    generator = torch.Generator().manual_seed(3)
    layers = [
        nn.Conv2d(3, 10, (1, 4), padding="same"), nn.BatchNorm2d(10), nn.ReLU(),
        nn.Conv2d(10, 10, 7, padding=3, groups=10, padding_mode="circular"),
        nn.Conv2d(10, 12, 1, bias=False), nn.ReLU(),
        nn.Conv2d(12, 6, 3, padding=2, dilation=2, groups=2),
        nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(5, 3, (3, 2)),
    ]  # fmt: skip
    model = randomise(nn.Sequential(*layers), generator).eval().double()
    x = torch.randn(2, 3, 13, 12, generator=generator, dtype=torch.float64)
    lowered, report = lower(model, x, target, report=True)
    assert report.reached
    assert report.rows
    torch.testing.assert_close(lowered(x), model(x), rtol=1e-9, atol=1e-12 * float(model(x).detach().abs().max()))
    again, second = lower(lowered, x, target, report=True)
    assert not second.rows
    assert "as it is" in str(second)
    assert [type(m) for m in again.modules()] == [type(m) for m in lowered.modules()]


class OwnCode(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 1)
        self.weight = nn.Parameter(torch.randn(3, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(self.first(x), self.weight)


def test_what_a_forward_executes_itself_is_never_left_in_silence() -> None:
    with pytest.raises(errors.InvalidArgument, match=r"no-1x1 is not reached.*OwnCode.forward executes it itself"):
        lower(OwnCode(), X, "no-1x1")
    lowered, report = lower(OwnCode(), X, "no-1x1", report=True, partial=True)
    assert not report.reached
    [refusal] = report.refusals
    assert refusal.operator == "1x1 convolution 8 -> 3"
    assert isinstance(lowered.first[0], Shuffle)
    assert "NOT reached" in str(report)


def test_a_block_is_to_be_folded_first() -> None:
    block = nn.Sequential(blocks.RepVGGConv2d(4, 4, 3, padding=1)).eval()
    with pytest.raises(errors.InvalidArgument, match=r"convfold\.fold makes one plain layer of a block"):
        lower(block, X, "no-1x1")
    lower(convfold.fold(block), X, "no-1x1")


def test_a_layer_called_with_an_output_size_is_refused() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 4, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x, output_size=[20, 22])

    with pytest.raises(errors.InvalidArgument, match="called with more than its input"):
        lower(Sized(), X, "no-transposed")


def test_a_linear_on_maps_is_a_pointwise_convolution_and_one_on_vectors_is_not() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.maps, self.tokens, self.head = nn.Linear(4, 6), nn.Linear(6, 9), nn.Linear(9, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.tokens(self.maps(x.permute(0, 2, 3, 1)).flatten(1, 2)).mean(1))

    model = Last()
    lowered, report = lower(model, X, "no-1x1", report=True)
    assert [type(m) for m in (lowered.maps, lowered.tokens, lowered.head)] == [LastAxis, LastAxis, nn.Linear]
    assert report.macs_after == report.macs_before
    assert report.notes == ("Matrix products on vectors stay, as they are no convolution: head.",)
    torch.testing.assert_close(lowered(X), model(X))
    kept = lower(model, X, Target("convolutions alone", (Pointwise(linear=False),)))
    assert isinstance(kept.maps, nn.Linear)


def test_a_linear_on_vectors_and_on_maps_is_refused() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.flatten(2).mT) + self.layer(x.mean((2, 3)))[:, None]

    with pytest.raises(errors.InvalidArgument, match="tensors of 2 and 3 axes"):
        lower(Both(), X, "no-1x1")


@pytest.mark.parametrize("fused", [False, True])
def test_attention_is_told(fused: bool) -> None:
    attention: nn.Module = (
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True) if fused else nn.MultiheadAttention(4, 2)
    )
    tokens = torch.randn(2, 5, 4)
    inputs: Any = tokens if fused else (tokens, tokens, tokens)
    with pytest.raises(errors.InvalidArgument, match=r"Linear 4 -> 12, on maps is not lowered"):
        lower(attention.eval(), inputs, "no-1x1")
    lowered, report = lower(attention, inputs, "no-1x1", partial=True, report=True)
    assert report.refusals
    assert not report.rows
    assert lowered is not attention


def test_a_layer_that_is_not_called_stays_and_is_named() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    lowered, report = lower(Idle(), X, "no-1x1", report=True)
    assert isinstance(lowered.idle, nn.Conv2d)
    assert "Not called on these inputs, and left as they are: idle." in report.notes


def test_mode_precision_format_and_training_flags_are_kept() -> None:
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Dropout(), nn.Conv2d(8, 8, 1)).to(
        torch.bfloat16, memory_format=torch.channels_last
    )
    model[0].requires_grad_(False)
    lowered = lower(model.train(), X.to(torch.bfloat16), "no-1x1")
    convs = [m for m in lowered.modules() if isinstance(m, nn.Conv2d)]
    assert lowered.training
    assert convs[0].training
    assert [m.weight.requires_grad for m in convs] == [False, True]
    assert all(m.weight.dtype == torch.bfloat16 for m in convs)
    assert all(m.weight.is_contiguous(memory_format=torch.channels_last) for m in convs)


def test_a_bare_layer_and_inputs_by_name() -> None:
    layer = nn.Conv2d(4, 6, 1)
    lowered = lower(layer, {"input": X}, "no-1x1")
    torch.testing.assert_close(lowered(X), layer(X))
    assert isinstance(layer, nn.Conv2d)


def test_one_channel_a_group_multiplies_more_and_says_so() -> None:
    _, report = lower(nn.Conv2d(4, 4, 1, groups=4), X, "no-1x1", report=True)
    [row] = report.rows
    assert row.macs_after == 3 * row.macs_before
    assert row.note == "MACs x3: one channel a group has no factor"


def test_a_wrong_rewriting_is_rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Pointwise.rewrite

    def wrong(self: Pointwise, layer: Any) -> Any:
        steps = right(self, layer)
        with torch.no_grad():
            steps[-1].weight[0, 0, 0, 0] += 1e-5
        return steps

    monkeypatch.setattr(Pointwise, "rewrite", wrong)
    model = nn.Sequential(nn.Conv2d(4, 6, 1))
    lowered, report = lower(model, X, "no-1x1", report=True, partial=True)
    assert "was not equal" in report.refusals[0].reason
    assert "rolled back" in report.refusals[0].reason
    assert isinstance(lowered[0], nn.Conv2d)


def test_a_model_that_reads_what_a_layer_was_is_an_error_in_words() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) / self.conv.in_channels

    with pytest.raises(
        errors.InvalidArgument, match=r"the lowered model does not run: a forward reads what a layer was .*in_channels"
    ):
        lower(Reads(), X, "no-1x1")


def test_the_whole_must_be_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    from convfold.transform.lower import lower as function

    module = __import__("sys").modules[function.__module__]
    real = module.verify

    def other(a: nn.Module, b: nn.Module, inputs: object) -> object:
        changed = copy.deepcopy(b)
        with torch.no_grad():
            next(changed.parameters()).mul_(1.5)
        return real(a, changed, inputs)

    monkeypatch.setattr(module, "verify", other)
    with pytest.raises(errors.NotEqual, match="the lowered model does not compute the same"):
        lower(nn.Sequential(nn.Conv2d(4, 6, 1)), X, "no-1x1")


def test_report_holds_plain_values() -> None:
    import json

    _, report = lower(nn.Sequential(nn.Conv2d(4, 6, 1)), X, "no-1x1", report=True)
    found = json.loads(json.dumps(report.to_dict()))
    assert found["reached"] is True
    assert found["rows"][0]["rule"] == "pointwise"
    assert found["certificate"]["equal"] is True
    assert "Shuffle(2x2); 2x2 convolution 1 -> 6, stride 2x2" in found["rows"][0]["after"]
