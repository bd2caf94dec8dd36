"""Formulas of products that the counter cases do not reach: other kernels, quantised and fused layers, gradients."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.cost import cost
from convfold.cost.counting.operators import kind
from convfold.cost.counting.products import formula
from convfold.studies.bench.counters.cases import Calls

IMAGE, KERNEL = (2, 4, 6, 5), (6, 4, 3, 3)
VALID = 2 * (4 * 3) * 6 * 4 * 9

OTHER_KERNELS = {
    "thnn_conv2d": (lambda x, w: torch._C._nn.thnn_conv2d(x, w, (3, 3)), IMAGE, KERNEL, VALID),
    "slow_conv3d": (
        lambda x, w: torch._C._nn.slow_conv3d(x, w, (2, 2, 2)),
        (1, 2, 3, 4, 5),
        (3, 2, 2, 2, 2),
        (2 * 3 * 4) * 3 * 2 * 8,
    ),
    "slow_conv_dilated2d": (lambda x, w: torch._C._nn.slow_conv_dilated2d(x, w, (3, 3)), IMAGE, KERNEL, VALID),
    "slow_conv_dilated3d": (
        lambda x, w: torch._C._nn.slow_conv_dilated3d(x, w, (2, 2, 2)),
        (1, 2, 3, 4, 5),
        (3, 2, 2, 2, 2),
        (2 * 3 * 4) * 3 * 2 * 8,
    ),
    "slow_conv_transpose2d": (
        lambda x, w: torch._C._nn.slow_conv_transpose2d(x, w, (3, 3), stride=2),
        (2, 4, 3, 2),
        (4, 6, 3, 3),
        2 * (3 * 2) * 4 * 6 * 9,
    ),
    "slow_conv_transpose3d": (
        lambda x, w: torch._C._nn.slow_conv_transpose3d(x, w, (2, 2, 2)),
        (1, 2, 2, 3, 2),
        (2, 3, 2, 2, 2),
        (2 * 3 * 2) * 2 * 3 * 8,
    ),
    "mkldnn_convolution": (
        lambda x, w: torch.mkldnn_convolution(x, w, None, (0, 0), (1, 1), (1, 1), 2),
        IMAGE,
        (6, 2, 3, 3),
        VALID // 2,
    ),
    "_addmm_activation": (
        lambda x, w: torch._addmm_activation(x.new_zeros(6), x, w),
        (4, 5),
        (5, 6),
        4 * 5 * 6,
    ),
}


@pytest.mark.parametrize("name", OTHER_KERNELS)
def test_other_kernels(name):
    function, left, right, macs = OTHER_KERNELS[name]
    report = cost(Calls(function), (torch.rand(left), torch.rand(right)))
    assert (report.macs, report.uncounted) == (macs, {})


INTEGERS = {
    "_int_mm": (lambda a, b: torch._int_mm(a, b), (32, 16), (16, 8), torch.int8, torch.int8, 32 * 16 * 8),
    "_weight_int8pack_mm": (
        lambda a, b: torch._weight_int8pack_mm(a, b, a.new_ones(16)),
        (4, 32),
        (16, 32),
        torch.float,
        torch.int8,
        4 * 32 * 16,
    ),
    "_grouped_mm": (
        lambda a, b: torch._grouped_mm(a, b),
        (2, 8, 16),
        (2, 16, 8),
        torch.bfloat16,
        torch.bfloat16,
        2 * 8 * 16 * 8,
    ),
    "_grouped_mm, rows in groups": (
        lambda a, b: torch._grouped_mm(a, b, offs=torch.tensor([3, 8], dtype=torch.int32, device=a.device)),
        (8, 16),
        (2, 16, 8),
        torch.bfloat16,
        torch.bfloat16,
        8 * 16 * 8,
    ),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_products_of_other_types(name):
    function, left, right, one, two, macs = INTEGERS[name]
    if not hasattr(torch, name.split(",")[0]):
        pytest.skip("this torch has no such operator")
    report = cost(Calls(function), (torch.ones(left, dtype=one), torch.ones(right, dtype=two)))
    assert (report.macs, report.uncounted) == (macs, {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_layers():
    quantise = torch.ao.quantization
    model = nn.Sequential(
        quantise.QuantStub(), nn.Conv2d(4, 6, 3, groups=2), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, stride=2),
        nn.Flatten(), nn.Linear(4 * 8 * 6, 3), quantise.DeQuantStub(),
    ).eval()  # fmt: skip
    model.qconfig = quantise.default_qconfig
    quantise.fuse_modules(model, [["1", "2"]], inplace=True)
    quantise.prepare(model, inplace=True)
    model(torch.rand(2, 4, 6, 5))
    quantise.convert(model, inplace=True)
    report = cost(model, torch.rand(2, 4, 6, 5))
    assert report.uncounted == {}
    assert report.macs == VALID // 2 + 2 * (4 * 3) * 6 * 4 * 4 + 2 * (4 * 8 * 6) * 3


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("build", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_of_a_convolution_cost_it_twice(build, groups, bias):
    layers = nn.Sequential(nn.Conv2d(4, 4, 1), build(4, 8, 3, groups=groups, bias=bias))
    forward = cost(layers, torch.rand(2, 4, 6, 5))
    step = cost(layers, torch.rand(2, 4, 6, 5), training=True).training
    first, second = (row.macs for row in forward.rows)
    # The first layer's input needs no gradient.
    assert step.forward_macs == first + second
    assert step.macs == 2 * first + 3 * second
    assert step.uncounted == {}


def test_gradients_of_attention_recompute_its_scores():
    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            assert x.isfinite().all()
            return F.scaled_dot_product_attention(x * self.scale, x * self.scale, x * self.scale)

    step = cost(Reads(), torch.rand(2, 3, 4, 8), training=True).training
    # Two products forward; scores again and four gradients backward.
    assert step.macs == 7 * (2 * 3 * 4 * 4 * 8)


def meta(*shape):
    return torch.empty(shape, device="meta")


def by_name(name, *args, out=None):
    namespace, operator = name.split("::")
    packet = getattr(getattr(torch.ops, namespace), operator)
    return formula(packet, name)(args, {}, out)


def test_recurrent_kernels_of_gpus():
    layer = nn.LSTM(3, 4, 2, bidirectional=True)
    weights = [weight.to("meta") for weight in layer.parameters()]
    # Four gates take the input, or both ways' states, and the own state.
    macs = 2 * 4 * 4 * (3 + 4) + 2 * 4 * 4 * (8 + 4)
    for name in ("aten::_cudnn_rnn", "aten::miopen_rnn"):
        assert by_name(name, meta(5, 2, 3), weights, 4) == 10 * macs
        assert by_name(name, meta(8, 3), weights, 4) == 8 * macs


def test_gradients_of_a_fused_lstm():
    assert by_name("aten::mkldnn_rnn_layer", meta(5, 2, 3), meta(16, 3), meta(16, 4)) == 10 * 16 * (3 + 4)
    assert by_name("aten::mkldnn_rnn_layer_backward", meta(5, 2, 3), meta(16, 3), meta(16, 4)) == 2 * 10 * 16 * (3 + 4)


def test_depthwise_kernels_of_gpus():
    assert (
        by_name("aten::_conv_depthwise2d", meta(2, 4, 6, 5), meta(4, 1, 3, 3), out=meta(2, 4, 4, 3)) == 2 * 4 * 12 * 9
    )
    out = meta(1, 4, 2, 2, 2)
    assert by_name("aten::conv_depthwise3d", meta(1, 4, 4, 4, 4), meta(4, 1, 3, 3, 3), out=out) == 4 * 8 * 27


def test_a_form_that_a_formula_was_not_written_for_is_told():
    known = kind(torch.ops.aten.mm.default)
    assert known.work((meta(2, 3), meta(3, 4)), {}, meta(2, 4)) == (24, 48)
    assert known.work((), {}, None) is None


def test_deformable_convolution_of_torchvision():
    library = torch.library.Library("torchvision", "FRAGMENT")
    schema = "deform_conv2d(Tensor x, Tensor weight, Tensor offset, Tensor mask, Tensor bias, bool use_mask) -> Tensor"
    if not hasattr(torch.ops.torchvision, "deform_conv2d"):
        library.define(schema)
        library.impl("deform_conv2d", lambda x, w, offset, mask, b, use: F.conv2d(x, w, b), "Meta")
    else:
        pytest.skip("torchvision has its own here")
    x, w, b = torch.rand(IMAGE), torch.rand(KERNEL), torch.rand(6)
    given = (x, w, torch.rand(2, 18, 4, 3), torch.rand(2, 9, 4, 3), b)
    for mask in (True, False):
        report = cost(Calls(lambda *a, mask=mask: torch.ops.torchvision.deform_conv2d(*a, mask)), given)
        assert (report.macs, report.convolutions, report.uncounted) == (VALID, 1, {})
        assert report.flops == 2 * VALID + (2 * 12 * 4 * 9) * (7 + mask) + 2 * 12 * 6


def test_every_chain_of_matrices_is_counted_in_the_order_it_is_multiplied():
    sizes = (2, 9, 3, 7)
    matrices = tuple(torch.rand(a, b) for a, b in pairwise(sizes))
    by_hand = min(2 * 9 * 3 + 2 * 3 * 7, 9 * 3 * 7 + 2 * 9 * 7)
    assert cost(Calls(lambda *m: torch.linalg.multi_dot(m)), matrices).macs == by_hand
