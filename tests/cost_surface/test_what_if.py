"""What-ifs against counts of models that were built so; what cannot have a form, with its reason."""

import copy
import json

import pytest
import torch
from torch import nn

from convfold.cost import cost
from convfold.cost.what_if.places import placed_layers
from convfold.cost.what_if.scenario import Figures, what_if
from convfold.cost.what_if.text import scenario_text
from convfold.errors import InvalidArgument, UnknownName
from cost_surface.modules import built
from cost_surface.nets import net

X = torch.empty(2, 3, 17, 15)
CHOSEN = ("separable", "separable:2", "grouped:2", "flattened", "spatial:3", "rank:3", "tucker:2,3", "cp:4",
          "bottleneck:2", "shuffle:4", "depthwise", "gated", "convolution")  # fmt: skip


@pytest.mark.parametrize("form", CHOSEN)
def test_the_totals_are_those_of_the_model_that_has_the_form(form: str) -> None:
    model = net()
    found = what_if(model, X, f"{form}@*conv")
    report = cost(model, X)
    layers = {place.row.path: place.layer for place in placed_layers(model, report)}
    changed = copy.deepcopy(model).to("meta")
    name, _, numbers = form.partition(":")
    for one in found.changed:
        form_of = built(layers[one.path], name, *[int(n) for n in numbers.split(",") if n])
        last = [m for m in form_of.modules() if isinstance(m, nn.Conv2d)][-1]
        parent, _, leaf = one.path.rpartition(".")
        if name == "gated":
            form_of = nn.Sequential(form_of, Bias(last.out_channels))
        else:
            last.bias = nn.Parameter(torch.empty(last.out_channels, device="meta"))
        setattr(changed.get_submodule(parent), leaf, form_of)
    counted = cost(changed, X.to("meta"))
    assert len(found.changed) == 2
    assert found.now == Figures(*(getattr(report, name) for name in Figures._fields))
    expected = {name: getattr(counted, name) for name in Figures._fields}
    if name == "gated":  # its bias is an operator of its own in this test
        expected = {key: expected[key] for key in ("macs", "flops", "params", "weight_bytes")}
    assert {key: getattr(found.then, key) for key in expected} == expected


class Bias(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.bias


def test_the_closed_form_of_separable() -> None:
    found = what_if(net(), X, "separable")
    told = {one.path: (one.letters, one.numbers) for one in found.changed}
    assert told["2.conv"] == ("1/N + 1/K", "1/8 + 1/9")
    assert {one.path: one.ratio for one in found.changed}["2.conv"] == pytest.approx(1 / 8 + 1 / 9, rel=1e-15)
    assert {kept.path for kept in found.kept} == {"2.side", "3.side", "6"}
    assert all("more than one tap" in kept.reason for kept in found.kept)
    text = scenario_text(found)
    assert "1/N + 1/K = 1/8 + 1/9 = 0.2361" in text
    json.dumps(found.to_dict())


def test_layers_that_run_twice_count_twice_and_hold_once() -> None:
    shared = nn.Conv2d(8, 8, 3, padding=1, bias=False)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    found = what_if(model, torch.empty(1, 8, 6, 6), "separable")
    (one,) = found.changed
    assert one.then.macs == 2 * 36 * 8 * (9 + 8)
    assert one.then.params == 8 * (9 + 8)
    assert one.then.weight_bytes == 4 * 8 * (9 + 8)


def test_a_linear_of_lower_rank() -> None:
    model = nn.Sequential(nn.Linear(20, 30))
    found = what_if(model, torch.empty(4, 7, 20), "svd:5")
    low = nn.Sequential(nn.Linear(20, 5, bias=False), nn.Linear(5, 30))
    counted = cost(low, torch.empty(4, 7, 20))
    assert found.then == Figures(*(getattr(counted, name) for name in Figures._fields))


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4, 3, 3, 3))
        self.up = nn.ConvTranspose2d(4, 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(nn.functional.conv2d(x, self.weight))


def test_what_is_no_layer_is_said() -> None:
    found = what_if(Functional(), X, "separable")
    reasons = {one.path: one.reason for one in found.kept}
    assert "not that of one nn.Conv" in reasons[""]
    assert "transposed" in reasons["up"]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ("grouped:3", "The nearest legal values are 2 and 4."),
        ("rank:9", "the rank is above full: got 9, expected at most 8."),
        ("tucker:9,2", "the first rank is above full: got 9, expected at most 8."),
        ("tucker:2,9", "the second rank is above full: got 9, expected at most 8."),
        ("cp:73", "the rank is above full: got 73, expected at most 72."),
        ("spatial:25", "the rank is above full: got 25, expected at most 24."),
        ("full-map", "full-map gives another shape: got 8 channels of (1, 1), expected 8 of (8, 7)."),
        ("bottleneck:9", "the bottleneck is closed: got 8 channels over 9, expected at least one."),
    ],
)
def test_what_cannot_be_is_listed_with_its_reason(form: str, reason: str) -> None:
    found = what_if(net(), X, f"{form}@2.conv")
    assert found.changed == ()
    assert found.now == found.then
    (kept,) = found.kept
    assert reason in kept.reason


def test_depthwise_of_channels_that_are_no_multiple() -> None:
    found = what_if(nn.Sequential(nn.Conv2d(3, 8, 3)), X, "depthwise")
    assert "The nearest are 6 and 9." in found.kept[0].reason


def test_unknown_forms_and_globs() -> None:
    with pytest.raises(UnknownName, match=r"unknown form: got 'seperable'. Did you mean separable"):
        what_if(net(), X, "seperable")
    with pytest.raises(UnknownName, match=r"unknown form: got 'xyz'. There are convolution, grouped"):
        what_if(net(), X, "xyz")
    with pytest.raises(InvalidArgument, match=r"the numbers of the form are wrong: got 'rank', expected rank:RANK"):
        what_if(net(), X, "rank")
    with pytest.raises(InvalidArgument, match=r"got 'separable:0'.* separable alone chooses the number itself"):
        what_if(net(), X, "separable:0")
    with pytest.raises(
        InvalidArgument, match=r"rank:2: no convolution or Linear is called so: got 'nope\*', expected a"
    ):
        what_if(net(), X, "rank:2@nope*")


def test_spatial_needs_two_axes() -> None:
    found = what_if(nn.Sequential(nn.Conv1d(4, 4, 3)), torch.empty(1, 4, 9), "spatial")
    assert "spatial is a form of kernels that are wider than 1 along two axes" in found.kept[0].reason
