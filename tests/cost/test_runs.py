"""The model stays as it is, whatever counting meets; what meta tensors cannot do is run for real."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.cost import cost
from convfold.errors import InvalidArgument, InvalidType


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 2)
        self.last = None
        self.calls = 0

    def forward(self, x, scale=None):
        self.calls += 1
        self.last = self.drop(self.norm(self.stem(x))).mean((2, 3))
        out = self.head(self.last)
        return out if scale is None else out * self.head(scale)


class Reads(Net):
    """Needs the values of its input."""

    def forward(self, x, scale=None):
        return super().forward(x / x.abs().max().item(), scale)


def state(model):
    return {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()}


@pytest.mark.parametrize("kind", [Net, Reads])
def test_model_is_untouched(kind):
    model = kind()
    model.norm.eval()
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    before, flags = state(model), [m.training for m in model.modules()]
    rng = torch.get_rng_state()
    cost(model, torch.ones(2, 3, 6, 6))
    with pytest.raises(InvalidArgument):
        cost(model, torch.ones(2, 5, 6, 6))
    assert [m.training for m in model.modules()] == flags
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert (model.last, model.calls) == (None, 0)
    assert torch.equal(torch.get_rng_state(), rng)
    after = state(model)
    assert all(after[n][0] == before[n][0] and torch.equal(after[n][1], before[n][1]) for n in before)


def test_counts_eval_mode_even_of_a_model_in_training():
    # A dropout would be an operator, and batch statistics of one value would raise.
    report = cost(Net().train(), torch.ones(1, 3, 3, 3))
    assert "drop" not in [row.path for row in report.rows]


def test_inputs_as_tensor_tuple_and_dict_agree():
    model, x, scale = Net(), torch.ones(2, 3, 6, 6), torch.ones(2, 4)
    assert cost(model, x).to_dict() == cost(model, (x,)).to_dict() == cost(model, {"x": x}).to_dict()
    assert cost(model, (x, scale)).to_dict() == cost(model, {"x": x, "scale": scale}).to_dict()
    assert cost(model, (x, scale)).convolutions == 3


def test_a_model_that_reads_values_is_run_and_says_so():
    report = cost(Reads(), torch.ones(2, 3, 6, 6))
    assert "item" in report.real_run
    assert "counted in a real run" in str(report)
    plain = cost(Net(), torch.ones(2, 3, 6, 6))
    assert plain.real_run == ""
    assert (report.macs, report.convolutions) == (plain.macs, plain.convolutions)


def test_no_memory_is_taken_for_weights_or_activations():
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Conv2d(4096, 4096, 3, padding=1) for _ in range(50)))
    # 30 GB of weights, and activations to match: only shapes can be counted.
    report = cost(model, torch.empty(64, 4096, 128, 128, device="meta"))
    assert report.real_run == ""
    assert report.macs == 50 * 64 * 128 * 128 * 4096 * 4096 * 9


def test_constants_kept_as_plain_attributes_meet_meta_tensors():
    class Shifted(nn.Conv2d):
        def forward(self, x):
            return super().forward(x + self.offset)

    shifted = Shifted(3, 3, 1)
    shifted.offset = torch.ones(1, 3, 1, 1)
    report = cost(shifted, torch.ones(1, 3, 4, 4))
    assert (report.real_run, report.operators) == ("", 2)
    assert shifted.offset.device.type == "cpu"


def test_a_result_kept_with_its_history_does_not_hinder_the_copy():
    model = Net()
    model(torch.ones(2, 3, 6, 6))
    assert model.last.grad_fn is not None
    assert cost(model, torch.ones(2, 3, 6, 6)).convolutions == 2


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("mode", ["inference", "autocast", "half", "traced"])
def test_counts_do_not_depend_on_surroundings(mode):
    model, x = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)),
        torch.ones(1, 3, 6, 6),
    )
    plain = cost(model, x)
    if mode == "inference":
        with torch.inference_mode():
            report = cost(copy.deepcopy(model), torch.ones(1, 3, 6, 6))
    elif mode == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            report = cost(model, x)
    elif mode == "half":
        report = cost(copy.deepcopy(model).half(), x.half())
    else:
        report = cost(torch.jit.trace(model.eval(), x), x)
    assert (report.macs, report.convolutions, report.operators) == (plain.macs, 2, 3)


GOOD = torch.ones(2, 3, 6, 6)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (torch.ones(2, 5, 6, 6), ["input 0 ('x')", "float32 [2, 5, 6, 6]", "stem (Conv2d)", "3 channels"]),
        (torch.ones(2, 3, 2, 2), ["input 0 ('x')", "float32 [2, 3, 2, 2]", "stem (Conv2d)", "Kernel size"]),
        (GOOD.double(), ["input 0 ('x')", "float64 [2, 3, 6, 6]", "stem (Conv2d)"]),
        (
            (GOOD, torch.ones(2, 7)),
            ["input 1 ('scale')", "float32 [2, 7]", "head (Linear)"],
        ),
        (
            {"x": GOOD, "scale": torch.ones(2, 4).double()},
            ["input 'scale'", "float64 [2, 4]"],
        ),
        ((GOOD, torch.ones(3, 4)), ["input 0 ('x') and input 1 ('scale')", "Net.forward"]),
        ({"y": GOOD}, ["missing a required argument: 'x'", "forward(x, scale=None)"]),
        ((), ["missing a required argument: 'x'", "got 0 positional"]),
        (("cat",), ["input 0 ('x')", "str"]),
    ],
)
@pytest.mark.parametrize("kind", [Net, Reads])
def test_wrong_inputs_are_named(kind, inputs, words):
    with pytest.raises(InvalidArgument) as caught:
        cost(kind(), inputs)
    sentence = str(caught.value).replace("Reads", "Net")
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


def test_counting_draws_no_random_numbers():
    class Draws(nn.Module):
        def forward(self, x):
            return x + torch.rand(1).item()

    state = torch.get_rng_state()
    assert cost(Draws(), torch.ones(2)).operators == 2
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("inputs", [[torch.ones(1)], None, {1: torch.ones(1)}, "x"])
def test_inputs_of_a_wrong_kind(inputs):
    with pytest.raises(InvalidType, match="a tuple of positional inputs or a dict"):
        cost(Net(), inputs)


def test_other_bad_models():
    with pytest.raises(InvalidType, match=r"got function, expected torch\.nn\.Module"):
        cost(F.relu, torch.ones(1))
    with pytest.raises(InvalidArgument, match=r"1\.weight: the parameter has no shape yet"):
        cost(nn.Sequential(nn.ReLU(), nn.LazyConv2d(3, 3)), torch.ones(1, 3, 4, 4))
    stuck = Net()
    stuck.lines = (line for line in ())
    with pytest.raises(InvalidArgument, match="Net: the model cannot be copied"):
        cost(stuck, torch.ones(1, 3, 4, 4))
