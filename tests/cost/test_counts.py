"""Counts against closed forms and against a counter that loops over every multiplication."""

from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.cost import cost
from support.loops import Loops, of_module

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


CASES = {
    "dense": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "stride": 2},
    "even and dilated": {"kernel_size": 2, "dilation": 2, "padding": 1},
    "grouped": {"kernel_size": 3, "padding": 1, "groups": 2},
    "depthwise": {"kernel_size": 3, "groups": 4, "stride": 2, "padding": 1},
    "pointwise": {"kernel_size": 1},
}


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_convolution_is_counted_as_a_loop_counts_it(case, dims):
    options = CASES[case]
    conv = CONV[dims](4, 8 if dims < 3 else 4, bias=False, **options).double()
    x = torch.randn(2, 4, *(5, 4, 5)[:dims], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(of_module(loops := Loops(), conv, x), conv(x))
    assert cost(conv, x).macs == loops.made


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 2, "stride": 2, "groups": 2},
        {"kernel_size": 3, "stride": 2, "groups": 4, "output_padding": 1},
        {"kernel_size": 3, "dilation": 2, "padding": 2},
    ],
    ids=["output padding", "grouped", "groups = in", "dilated"],
)
def test_transposed_convolution_is_counted_as_a_loop_counts_it(options, dims):
    conv = TRANSPOSED[dims](4, 8 if dims < 3 else 4, bias=False, **options).double()
    x = torch.randn(2, 4, *(3, 2, 3)[:dims], dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(of_module(loops := Loops(), conv, x), conv(x))
    assert cost(conv, x).macs == loops.made


@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_convolution_closed_form(dims, groups):
    size, out = (9, 7, 11)[:dims], (5, 4, 6)[:dims]
    conv = CONV[dims](6, 12, 3, stride=2, padding=1, groups=groups)
    report = cost(conv, torch.empty(3, 6, *size))
    assert report.macs == 3 * prod(out) * 12 * (6 // groups) * 3**dims
    assert (report.convolutions, report.operators) == (1, 1)
    assert report.params == 12 * (6 // groups) * 3**dims + 12
    assert report.weight_bytes == 4 * report.params
    assert report.rows[0].outputs == ((3, 12, *out),)


def test_non_square_kernel_and_unbatched_input():
    conv = nn.Conv2d(2, 3, (1, 5), stride=(2, 1), padding=(0, 2))
    assert cost(conv, torch.empty(2, 8, 7)).macs == 4 * 7 * 3 * 2 * 5


@pytest.mark.parametrize(("shape", "rows"), [((3,), 1), ((5, 3), 5), ((2, 5, 3), 10), ((2, 5, 7, 3), 70)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_closed_form(shape, rows, bias):
    report = cost(nn.Linear(3, 4, bias=bias), torch.empty(*shape))
    assert (report.macs, report.convolutions) == (rows * 3 * 4, 1)


class Calls(nn.Module):
    """Runs a function; a layer, where it has one, is its own."""

    def __init__(self, function, layer=None):
        super().__init__()
        self.function = function
        self.layer = layer

    def forward(self, *args):
        return self.function(self.layer, *args)


def test_functional_convolution_belongs_to_the_caller():
    model = Calls(lambda layer, x: F.conv2d(x, layer.weight), nn.Conv2d(3, 5, 3))
    report = cost(model, torch.empty(1, 3, 6, 6))
    assert (report.macs, report.convolutions) == (16 * 5 * 3 * 9, 1)
    assert [(row.path, row.type) for row in report.rows] == [("", "Calls")]


def test_module_called_twice_counts_both_calls():
    model = Calls(lambda layer, x: layer(layer(x)), nn.Conv2d(4, 4, 3, padding=1))
    report = cost(model, torch.empty(1, 4, 6, 6))
    assert (report.macs, report.convolutions, report.operators) == (2 * 36 * 16 * 9, 2, 2)
    assert report.params == 4 * 4 * 9 + 4
    assert [row.path for row in report.rows] == ["layer"]


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (lambda _, a, b: a @ b, [(4, 5), (5, 6)], 4 * 5 * 6),
        (lambda _, a, b: a @ b, [(7, 4, 5), (7, 5, 6)], 7 * 4 * 5 * 6),
        (lambda _, a, b: a @ b, [(4, 5), (5,)], 20),
        (lambda _, a, b: a @ b, [(5,), (5,)], 5),
        (lambda _, a, b: torch.addbmm(a.new_ones(4, 6), a, b), [(7, 4, 5), (7, 5, 6)], 7 * 4 * 5 * 6),
        (lambda _, a, b: torch.einsum("nchw,oc->nohw", a, b), [(2, 3, 4, 5), (6, 3)], 2 * 3 * 20 * 6),
        (
            lambda _, q, k: F.scaled_dot_product_attention(q, k, k),
            [(2, 3, 4, 8), (2, 3, 5, 8)],
            6 * 4 * 5 * 16,
        ),
    ],
    ids=["mm", "bmm", "mv", "dot", "addbmm", "einsum", "attention"],
)
def test_products_without_weights(function, shapes, macs):
    report = cost(Calls(function), tuple(torch.empty(*shape) for shape in shapes))
    assert (report.macs, report.convolutions, report.params) == (macs, 0, 0)


def test_a_product_with_a_matrix_computed_from_weights_counts_as_a_convolution():
    def scaled(layer, x):
        return x @ (layer.weight.t() * 2)

    def own(layer, x):
        return x @ (layer.weight.t() * x.mean())

    layer, x = nn.Linear(3, 4), torch.empty(2, 3)
    assert cost(Calls(scaled, layer), x).convolutions == 1
    assert cost(Calls(own, layer), x).convolutions == 0


def test_a_buffer_overwritten_by_an_input_is_no_constant():
    layer = nn.Identity()
    layer.register_buffer("memory", torch.zeros(4, 4))

    def written(layer, x):
        layer.memory[:2].copy_(x[:2])
        return x @ layer.memory

    assert cost(Calls(written, layer), torch.empty(4, 4)).convolutions == 0
    assert cost(Calls(lambda layer, x: x @ layer.memory, layer), torch.empty(4, 4)).convolutions == 1


def test_operators_leave_out_views_and_copies():
    def layout(_, x):
        y = x.permute(0, 2, 3, 1).contiguous().reshape(2, -1).clone().double()
        return y.new_empty(3), y.view(2, 4, -1).transpose(1, 2).flatten().chunk(2)

    assert cost(Calls(layout), torch.empty(2, 4, 3, 3)).operators == 0
    assert cost(Calls(lambda _, x: torch.relu(x + 1)), torch.empty(2)).operators == 2
    padded = nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect")
    assert cost(padded, torch.empty(1, 3, 5, 5)).operators == 2


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}])
def test_batch_norm_is_one_operator_without_macs(options):
    report = cost(nn.BatchNorm2d(3, **options), torch.empty(2, 3, 4, 4))
    assert (report.macs, report.convolutions, report.operators) == (0, 0, 1)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_a_resizing_is_one_operator_on_meta_tensors_too(mode):
    assert cost(Calls(lambda _, x: F.interpolate(x, scale_factor=2, mode=mode)), torch.empty(1, 3, 4, 4)).operators == 1
