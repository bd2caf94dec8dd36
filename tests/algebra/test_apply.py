"""Feature mode against torch's own modules and functions, and against loops where torch has none."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.algebra import (
    Affine,
    AvgPool,
    Concat,
    Conv,
    ConvTranspose,
    Identity,
    Norm,
    Pad,
    Select,
    apply,
    dense,
    op,
)
from convfold.geometry import Axis, conv_window
from support.make import Make, randomise

SIZES = {1: (11,), 2: (9, 7), 3: (7, 6, 5)}
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
DOUBLE = {"dtype": torch.float64}

dims_1_to_3 = pytest.mark.parametrize("dims", [1, 2, 3])


def same(a, b):
    assert a.shape == b.shape
    assert (a - b).abs().max().item() <= 1e-12 * max(1.0, b.abs().max().item())


def inputs(make, channels, dims, batch=2):
    return make.tensor(batch, channels, *SIZES[dims])


@dims_1_to_3
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 3, "stride": 2, "padding": 2, "dilation": 2, "groups": 2, "bias": False},
        {"kernel_size": 1, "stride": 3},
        *({"kernel_size": 3, "padding": 2, "padding_mode": m} for m in ("reflect", "replicate", "circular")),
        {"kernel_size": 2, "padding": "same", "dilation": 2, "padding_mode": "circular"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding=.same")
def test_a_convolution_is_the_modules(dims, arguments):
    make = Make(dims)
    module = randomise(CONV[dims](4, 6, **arguments, **DOUBLE), make.generator)
    x = inputs(make, 4, dims)
    same(apply(op(module), x), module(x))
    same(apply(op(module), x[0]), module(x[0]))


@dims_1_to_3
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 2, "stride": 2, "groups": 4},
        {"kernel_size": 3, "stride": 3, "output_padding": 2, "groups": 2, "bias": False},
        {"kernel_size": 3, "dilation": 2, "padding": 2, "output_padding": 1},
    ],
    ids=str,
)
def test_a_transposed_convolution_is_the_modules(dims, arguments):
    make = Make(dims)
    module = randomise(TRANSPOSED[dims](4, 8, **arguments, **DOUBLE), make.generator)
    x = inputs(make, 4, dims)
    same(apply(op(module), x), module(x))
    same(apply(op(module), x[1]), module(x[1]))


@dims_1_to_3
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_uneven_padding_and_crops_follow_the_definition(dims, mode):
    """out[i] reads the extended input at s*i - lo + d*j; a crop does not change what a mode reflects."""
    make, size = Make(3), SIZES[dims]
    window = (Axis(2, 2, 2, 2, -1), Axis(3, 1, 1, -1, 2), Axis(1, 1, 1, 1, 0))[:dims]
    conv = make.conv(2, 3, window, mode=mode)
    x = inputs(make, 2, dims)

    def value(sample, channel, where):
        index = []
        for q, n in zip(where, size, strict=True):
            if mode == "zeros" and not 0 <= q < n:
                return 0.0
            if mode == "reflect":
                q = abs(q) if q < n else 2 * (n - 1) - q
            index.append(q % n if mode == "circular" else min(max(q, 0), n - 1))
        return x[(sample, channel, *index)].item()

    y = apply(conv, x)
    for place in product(*(range(n) for n in y.shape[2:])):
        for o in range(3):
            total = conv.bias[o].item()
            for c, taps in product(range(2), product(*(range(a.kernel) for a in window))):
                where = [a.stride * i - a.lo + a.dilation * j for a, i, j in zip(window, place, taps, strict=True)]
                total += conv.weight[(o, c, *taps)].item() * value(1, c, where)
            assert abs(y[(1, o, *place)].item() - total) < 1e-12


@dims_1_to_3
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", [{}, {"affine": False}, {"bias": False}, {"eps": 0.1}], ids=str)
def test_a_normalisation_is_the_modules(dims, training, options):
    make = Make(4)
    module = randomise(NORM[dims](4, **options, **DOUBLE), make.generator).train(training)
    twin = randomise(NORM[dims](4, **options, **DOUBLE), Make(4).generator).train(training)
    x = inputs(make, 4, dims)
    same(apply(Norm(module, dims), x), twin(x))
    same(module.running_mean, twin.running_mean)


@dims_1_to_3
def test_one_sample_without_a_batch_axis_is_normalised_too(dims):
    # As many positions as channels: read as a batch, this would be silently wrong.
    make = Make(5)
    norm = make.norm(SIZES[dims][0], dims)
    x = make.tensor(SIZES[dims][0], *SIZES[dims])
    same(apply(norm, x), norm.module(x.unsqueeze(0)).squeeze(0))
    flat = make.norm(5, 0)
    vector = make.tensor(5)
    same(apply(flat, vector), flat.module(vector.unsqueeze(0)).squeeze(0))


RINGS = [((1, 1), (2, 0)), ((0, 1), (0, 0)), ((0, 0), (0, 2)), ((0, 0), (0, 0))]


@pytest.mark.parametrize("options", [{}, {"affine": False}, {"track_running_stats": False}], ids=str)
@pytest.mark.parametrize("ring", RINGS, ids=str)
def test_a_ring_is_normalised_with_the_statistics_of_the_inside(ring, options):
    make = Make(6)
    module = randomise(nn.BatchNorm2d(3, **options, **DOUBLE), make.generator).train()
    inner, constant = make.tensor(4, 3, 5, 4), make.tensor(3)
    widths = [p for pair in reversed(ring) for p in pair]
    inside = F.pad(torch.ones(5, 4, **DOUBLE), widths).bool()
    x = torch.where(inside, F.pad(inner, widths), constant.reshape(3, 1, 1))
    y = apply(Norm(module, 2, ring), x)
    mean, var = inner.mean((0, 2, 3)), inner.var((0, 2, 3), unbiased=False)
    expected = (x - mean.reshape(3, 1, 1)) / (var + module.eps).sqrt().reshape(3, 1, 1)
    if module.affine:
        expected = expected * module.weight.reshape(3, 1, 1) + module.bias.reshape(3, 1, 1)
    if any(map(any, ring)):
        assert (y - expected)[..., ~inside].abs().amax() < 1e-12
    assert (y - expected)[..., inside].abs().amax() < 1e-12
    if module.track_running_stats:
        module.eval()
        same(apply(Norm(module, 2, ring), x), module(x))


@dims_1_to_3
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False},
        {"kernel_size": 3, "padding": 1, "stride": 2, "ceil_mode": True, "divisor_override": 5},
    ],
    ids=str,
)
def test_pooling_is_the_modules(dims, arguments):
    if dims == 1 and "divisor_override" in arguments:
        arguments = {k: v for k, v in arguments.items() if k != "divisor_override"}
    make = Make(7)
    module = POOL[dims](**arguments)
    x = inputs(make, 3, dims)
    same(apply(op(module, channels=3), x), module(x))


def test_pooling_that_torch_does_not_have_follows_the_definition():
    """Dilation, uneven padding, other modes, a divisor in 1-D; without counting, zeros do not divide."""
    make = Make(8)
    x = make.tensor(1, 2, 9)
    padded = F.pad(x, (2, 3))
    dilated = sum(padded[..., j : j + 10 : 2] for j in (0, 2, 4)) / 3
    same(apply(AvgPool(2, (Axis(3, 2, 2, 2, 3),)), x), dilated)
    counts = torch.tensor([2.0, 3.0, 3.0, 3.0, 2.0], **DOUBLE)
    same(apply(AvgPool(2, (Axis(3, 2, 2, 2, 3),), count_include_pad=False), x), dilated * 3 / counts)
    same(apply(AvgPool(2, (Axis(3, 2, 2, 2, 3),), divisor=7), x), dilated * 3 / 7)
    mirrored = F.avg_pool1d(F.pad(x, (1, 1), mode="reflect"), 3, 1)
    for counted in (True, False):
        pool = AvgPool(2, (Axis(3, 1, 1, 1, 1),), "reflect", counted)
        same(apply(pool, x), mirrored)
    wide = F.avg_pool1d(F.pad(x, (3, 3)), 3, 1)
    same(apply(AvgPool(2, (Axis(3, 1, 1, 3, 3),)), x), wide)


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_what_needs_no_arithmetic(dims):
    make = Make(9)
    size = SIZES.get(dims, ())
    x = make.tensor(2, 6, *size)
    flat = x.reshape(2, 6, -1)
    assert torch.equal(apply(Identity(6, dims), x), x)
    index = (5, 0, 0, 3)
    assert torch.equal(apply(Select(index, 6, dims), x), x[:, list(index)])
    assert torch.equal(apply(Select.block(2, 5, 6, dims), x), x[:, 2:5])
    shuffled = flat.reshape(2, 3, 2, -1).transpose(1, 2).reshape(flat.shape).reshape(x.shape)
    assert torch.equal(apply(Select.shuffle(6, 3, dims), x), shuffled)
    assert torch.equal(apply(Select(index, 6, dims), x[0]), x[0][list(index)])
    both = Concat((Identity(6, dims), Select(index, 6, dims)))
    assert torch.equal(apply(both, x), torch.cat([x, x[:, list(index)]], 1))
    assert torch.equal(apply(both, x[0]), torch.cat([x[0], x[0][list(index)]], 0))
    affine = make.affine(6, dims)
    expected = flat * affine.scale[:, None] + affine.shift[:, None]
    assert torch.equal(apply(affine, x), expected.reshape(x.shape))
    half = make.affine(6, dims, shift=False) >> make.affine(6, dims, scale=False)
    expected = flat * half.parts[0].scale[:, None] + half.parts[1].shift[:, None]
    assert torch.equal(apply(half, x), expected.reshape(x.shape))


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_fully_connected_layer_and_its_groups(groups):
    make = Make(10)
    conv = make.conv(6, 12, (), groups)
    x = make.tensor(3, 5, 6)
    blocks = [F.linear(part, w) for part, w in zip(x.chunk(groups, -1), conv.weight.chunk(groups), strict=True)]
    same(apply(conv, x), torch.cat(blocks, -1) + conv.bias)
    same(apply(conv, x[0, 0]), (torch.cat(blocks, -1) + conv.bias)[0, 0])


def test_a_value_is_padded_and_the_inside_stays_bit_for_bit():
    make = Make(11)
    x, value = make.tensor(2, 3, 4, 5), 1e6 * make.tensor(3)
    y = apply(Pad(3, ((1, 0), (-1, 2)), value=value), x)
    assert torch.equal(y[:, :, 1:, :-2], x[..., 1:])
    expected = value.reshape(3, 1).expand(2, 3, 6)
    assert torch.equal(y[:, :, 0], expected)
    assert torch.equal(y[:, :, 2, -2:], expected[..., :2])
    same(apply(Pad(3, ((1, 0), (-1, 2)), value=value), x[0]), y[0])


def test_a_bias_map_is_added_position_by_position():
    make = Make(12)
    x, shift = make.tensor(2, 3, 4, 5), make.tensor(3, 4, 5)
    assert torch.equal(apply(Affine(None, shift, 2), x), x + shift)


def test_the_matrix_of_the_oracle_is_the_map():
    make = Make(13)
    expression = make.conv(2, 3, conv_window(2, (3, 2), (2, 1), 1)) >> make.norm(3, 2)
    matrix, shift = dense(expression, (5, 4))
    x = make.tensor(3, 2, 5, 4)
    same(apply(expression, x).flatten(1), x.flatten(1) @ matrix.T + shift)
    by_hand = ConvTranspose(torch.tensor([[[1.0, 2.0]]], **DOUBLE), torch.tensor([0.5], **DOUBLE), (Axis(2, 2),))
    matrix, shift = dense(by_hand, (2,))
    assert matrix.tolist() == [[1, 0], [2, 0], [0, 1], [0, 2]]
    assert shift.tolist() == [0.5] * 4
    matrix, shift = dense(Conv(torch.tensor([[[1.0, 2.0, 3.0]]], **DOUBLE), None, (Axis(3, lo=1, hi=1),)), (3,))
    assert matrix.tolist() == [[2, 3, 0], [1, 2, 3], [0, 1, 2]]
    assert shift.tolist() == [0, 0, 0]
