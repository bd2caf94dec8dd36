"""verify: equal or not, by a bound that follows the dtype, on borders as well as inside."""

import copy
import json
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convfold
from convfold import blocks
from convfold.algebra import apply, op
from convfold.algebra.readings.kernel import kernel
from convfold.errors import InvalidArgument, InvalidType, NotEqual
from convfold.verify import certify
from convfold.verify.certificate import gamma
from support.make import randomise
from transform.models import noise


def small(dtype: torch.dtype = torch.float64, width: int = 6) -> Any:
    layers = [nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 4, 3, padding=1)]
    return randomise(nn.Sequential(*layers).double(), torch.Generator().manual_seed(0)).to(dtype).eval()


X = noise(2, 3, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_fold_is_equal_in_every_dtype(dtype: torch.dtype) -> None:
    model = small(dtype)
    certificate = convfold.verify(model, convfold.fold(model), X.to(dtype))
    assert bool(certificate) is certificate.equal is True
    assert certificate.error <= certificate.bound
    assert certificate.dtype == str(dtype).removeprefix("torch.")


def test_the_bound_follows_the_coarser_dtype() -> None:
    bounds = [convfold.verify(small(dtype), small(dtype), X).bound for dtype in (torch.float64, torch.float32)]
    assert bounds[0] * 2**28 < bounds[1] < bounds[0] * 2**30
    coarse = convfold.verify(small(torch.bfloat16), small(torch.bfloat16), X).bound
    assert bounds[1] * 2**10 < coarse
    # Against a model in double, the model in bfloat16 sets the bound; and its cast is within it.
    model = small()
    assert convfold.verify(model, copy.deepcopy(model).to(torch.float32), X)
    assert convfold.verify(model, copy.deepcopy(model).to(torch.float32), X).dtype == "float32"
    # 54 products add up in the last layer.
    assert 2 * 54**0.5 * 2**-52 <= bounds[0] < 1e-12


@pytest.mark.parametrize("amount", [1e-3, 1e-7])
@pytest.mark.parametrize("place", ["0.weight", "0.bias", "1.running_mean", "3.weight"])
def test_a_perturbed_weight_is_found(place: str, amount: float) -> None:
    model = small()
    other = copy.deepcopy(model)
    other.state_dict()[place].view(-1)[-1] += amount
    certificate = convfold.verify(model, other, X)
    assert not certificate
    assert certificate.error > certificate.bound
    # The input that showed it shows it again.
    x = certificate.worst_input[0]
    difference = (model(x) - other(x)).abs().max() / model(x).abs().max()
    assert difference.item() == pytest.approx(certificate.error, rel=1e-6)


def test_a_perturbation_of_a_float32_weight_is_found() -> None:
    model = small(torch.float32)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[3].weight[0, 0, 1, 1] += 1e-3
    assert not convfold.verify(model, other, X)


class Framed(nn.Module):
    """A convolution that pads with a value where the other pads with zero: wrong on the border alone."""

    def __init__(self, conv: nn.Conv2d, value: float) -> None:
        super().__init__()
        self.conv, self.value = copy.deepcopy(conv), value
        self.conv.padding = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(nn.functional.pad(x, (1, 1, 1, 1), value=self.value))


def test_a_fault_on_the_border_is_found_there() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1).double()
    assert convfold.verify(conv, Framed(conv, 0.0), X)
    certificate = convfold.verify(conv, Framed(conv, 0.01), X)
    assert not certificate
    assert certificate.border_error > 1e-4
    assert certificate.interior_error <= certificate.bound
    assert f"border {certificate.border_error:.2e}, interior {certificate.interior_error:.2e}" in str(certificate)
    inside = copy.deepcopy(conv)
    with torch.no_grad():
        inside.weight[0, 0, 1, 1] += 1e-3
    assert convfold.verify(conv, inside, X).interior_error > 1e-5


class Cropped(nn.Module):
    """Right at the example's size, wrong at another."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) * (1.0 if x.shape[-1] == 16 else 1.001)


def test_other_sizes_are_tried() -> None:
    conv = nn.Conv2d(3, 4, 3, padding=1).double()
    certificate = convfold.verify(conv, Cropped(conv), X)
    assert not certificate
    assert [p.error <= p.bound for p in certificate.probes if p.shapes[0][-1] == 16] == [True] * 3
    assert {p.name for p in certificate.probes} == {"example", "random", "zeros", "larger map"}
    flat = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 14, 3)).double()
    fixed = convfold.verify(flat, copy.deepcopy(flat), X)
    assert {p.name for p in fixed.probes} == {"example", "random", "zeros"}, "a fixed size is no error"


def test_zeros_show_a_bias() -> None:
    conv = nn.Conv2d(3, 4, 3).double()
    with torch.no_grad():
        conv.bias.fill_(1e-9)
    other = copy.deepcopy(conv)
    with torch.no_grad():
        other.bias += 1e-18  # nothing beside an input, much beside none
    certificate = convfold.verify(conv, other, X)
    assert not certificate
    assert [p.name for p in certificate.probes if p.error > p.bound] == ["zeros"]


def test_models_are_put_back() -> None:
    a, b = small(), small()
    a.train()
    b[1].train()
    flags = [[m.training for m in model.modules()] for model in (a, b)]
    state = copy.deepcopy(a.state_dict())
    assert convfold.verify(a, b, X)
    assert [[m.training for m in model.modules()] for model in (a, b)] == flags
    assert all(torch.equal(value, state[key]) for key, value in a.state_dict().items())


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4).double()
        self.late = 0.0

    def forward(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Any]:
        y = self.linear(x)
        masked = y if mask is None else y.masked_fill(mask, -torch.inf)
        return {
            "y": y,
            "both": (masked + self.late, y > 0),
            "label": y.argmax(1),
            "count": 3,
            "wave": torch.complex(y, y + self.late),
        }


def test_inputs_and_outputs_of_every_kind() -> None:
    model, x = Several(), noise(5, 3)
    mask = torch.zeros(5, 4, dtype=torch.bool)
    mask[:, 0] = True
    for inputs in (x, (x,), (x, mask), {"x": x}, {"x": x, "mask": mask}):
        assert convfold.verify(model, copy.deepcopy(model), inputs)
        # An infinite output is no scale: the finite ones still count.
        other = copy.deepcopy(model)
        other.late = 1e-6
        assert not convfold.verify(model, other, inputs)
    flipped = copy.deepcopy(model)
    with torch.no_grad():
        flipped.linear.weight.neg_()
    assert not convfold.verify(model, flipped, x)


class Masked(nn.Module):
    """Nothing but an output with infinite values."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x * self.factor, torch.full_like(x, -torch.inf)], 1)


def test_an_infinite_output_is_no_scale() -> None:
    assert convfold.verify(Masked(1.0), Masked(1.0), noise(5, 3))
    assert not convfold.verify(Masked(1.0), Masked(1.0 + 1e-9), noise(5, 3))


class Label(nn.Module):
    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1) + self.shift


def test_integer_outputs_must_agree_exactly() -> None:
    assert convfold.verify(Label(0), Label(0), noise(4, 5))
    assert not convfold.verify(Label(0), Label(1), noise(4, 5))


def test_integer_inputs_are_left_as_they_are() -> None:
    model = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 3)).double()
    assert convfold.verify(model, copy.deepcopy(model), torch.tensor([[1, 9], [0, 3]]))


def test_values_that_are_not_finite() -> None:
    model = small()
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[3].weight[0, 0, 0, 0] = torch.nan
    assert not convfold.verify(model, other, X)
    assert not convfold.verify(other, model, X)


def test_outputs_that_cannot_be_compared() -> None:
    conv = nn.Conv2d(3, 4, 3).double()
    match = r"output 0 has another shape: got float64 \[2, 5, 14, 14\], expected float64 \[2, 4, 14, 14\]"
    with pytest.raises(NotEqual, match=match):
        convfold.verify(conv, nn.Conv2d(3, 5, 3).double(), X)
    with pytest.raises(NotEqual, match="the outputs have different structures"):
        convfold.verify(nn.Linear(3, 4).double(), Several(), noise(5, 3))
    with pytest.raises(InvalidArgument, match=r"the second model does not run on these inputs .*got input 0"):
        convfold.verify(conv, nn.Conv2d(4, 4, 3).double(), X)
    with pytest.raises(InvalidArgument, match=r"the first model does not run on these inputs .*got input 0"):
        convfold.verify(conv, conv, noise(2, 4, 8, 8))
    with pytest.raises(InvalidType, match="b: verify compares modules: got str"):
        convfold.verify(conv, "conv", X)  # type: ignore[arg-type]


def test_certificates_are_plain_values_and_can_be_read() -> None:
    certificate = convfold.verify(small(), small(), X)
    values = json.loads(json.dumps(certificate.to_dict()))
    assert values["equal"] is True
    assert len(values["probes"]) == len(certificate.probes) == 5
    assert str(certificate).startswith("equal: error ")
    other = small()
    with torch.no_grad():
        other[0].weight += 1
    assert str(convfold.verify(small(), other, X)).startswith("NOT EQUAL: error ")


def test_the_bound_of_a_linear_region_is_rigorous_and_tight_enough() -> None:
    block = randomise(blocks.DBBConv2d(4, 6, 3, padding=1).double(), torch.Generator().manual_seed(1)).eval()
    expression = op(block)
    certificate = certify(expression, kernel(expression), ((5, 6), (9, 8)))
    assert certificate
    assert 0 < certificate.bound < 1e-13
    conv = kernel(expression)
    weight = conv.weight.clone()
    # As small a fault as a tenth of a millionth of the largest tap is far outside.
    weight[0, 0, 0, 0] += 1e-7 * weight.abs().max()
    faulty = type(conv)(weight, conv.bias, conv.window, conv.groups, conv.padding_mode)
    assert not certify(expression, faulty, ((5, 6),))
    x = noise(1, 4, 5, 6)
    assert (apply(faulty, x) - apply(conv, x)).abs().max() > 0


@pytest.mark.parametrize("count", [1, 2, 1000, 10**9])
def test_gamma_is_n_units_over_one_minus_n_units(count: int) -> None:
    exact = Fraction(count, 2**53) / (1 - Fraction(count, 2**53))
    assert abs(gamma(count) / exact - 1) <= 2.0**-50
    assert gamma(0) == 0
