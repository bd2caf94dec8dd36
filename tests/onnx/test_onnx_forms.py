"""Each form of a linear map: it gives what the map gives, in exactly the nodes that are counted."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.errors import NotFoldable
from convfold.geometry import Axis, point
from convfold.graph.maps import IDENTITY, Block, Given, Map, Plus, Seen, seen, select
from convfold.graph.program import Linear, Opaque, Program, ShiftMap, Term
from convfold.plan.onnx.emit import emit
from convfold.plan.onnx.price import PROHIBITIVE, price, pricer
from convfold.plan.search.price import by_latency, by_macs, by_operators
from support.onnx_written import Bench

IMAGE = (2, 6, 7, 8)


def padded(x: Tensor, window) -> Tensor:
    return F.pad(x, [side for axis in reversed(window) for side in (axis.lo, axis.hi)])


def check(bench: Bench, node: Linear, reference: Tensor, *nodes: str, extra: str = "") -> None:
    """The nodes written are these, run to the reference, and are as many as the price says."""
    found, cost = bench.written(node, reference)
    assert sorted(found) == sorted(nodes)
    assert cost.operators == len(nodes)


@pytest.mark.parametrize("opset", [7, 9, 11, 17, 22])
@pytest.mark.parametrize(
    ("window", "nodes"),
    [
        ((Axis(3, 1, 1, 1, 1), Axis(3, 1, 1, 1, 1)), ["Conv"]),
        ((Axis(3, 2, 1, 0, 1), Axis(2, 1, 2, 3, 0)), ["Conv"]),
        ((Axis(1, 1, 1, 2, 5), Axis(3, 1, 1, 4, 0)), ["Conv"]),
        ((Axis(3, 1, 1, -1, 2), Axis(3, 2, 1, 1, -2)), ["Slice", "Conv"]),
    ],
)
def test_a_convolution_holds_its_padding_and_its_bias_and_is_cropped_before(opset, window, nodes) -> None:
    bench = Bench([IMAGE], opset)
    term, weight = bench.conv(window, 4, 2)
    shift, bias = bench.shift(4)
    strides, dilations = ([getattr(a, name) for a in window] for name in ("stride", "dilation"))
    y = F.conv2d(padded(bench.x[0], window), weight, bias, strides, 0, dilations, 2)
    check(bench, Linear((term,), shift, 1), y, *nodes)
    check(bench, Linear((term,)), y - bias.reshape(-1, 1, 1), *nodes)


@pytest.mark.parametrize("rank", [3, 4, 5])
@pytest.mark.parametrize("opset", [7, 17])
def test_a_product_over_channels_is_a_convolution_of_one_tap(rank, opset) -> None:
    bench = Bench([(2, 6, 3, 4, 5)[:rank]], opset)
    term, weight = bench.conv((), 5)
    shift, bias = bench.shift(5)
    y = torch.einsum("oi,ni...->no...", weight, bench.x[0]) + bias.reshape(-1, *(1,) * (rank - 2))
    check(bench, Linear((term,), shift, 1), y, "Conv")


@pytest.mark.parametrize("opset", [7, 10, 11, 17])
def test_a_product_of_a_matrix_is_a_gemm_with_its_bias(opset) -> None:
    bench = Bench([(3, 6)], opset)
    term, weight = bench.conv((), 5)
    shift, bias = bench.shift(5)
    check(bench, Linear((term,), shift, 1), bench.x[0] @ weight.t() + bias, "Gemm")
    check(bench, Linear((term,)), bench.x[0] @ weight.t(), "Gemm")


@pytest.mark.parametrize("opset", [7, 17])
def test_a_product_on_the_last_axis_is_a_matmul_and_adds_its_bias_after(opset) -> None:
    bench = Bench([(2, 3, 6)], opset)
    term, weight = bench.conv((), 5, axis=2)
    shift, bias = bench.shift(5)
    check(bench, Linear((term,)), bench.x[0] @ weight.t(), "MatMul")
    check(bench, Linear((term,), shift, 2), bench.x[0] @ weight.t() + bias, "MatMul", "Add")


def test_a_product_on_an_inner_axis_is_turned_to_the_end_and_back() -> None:
    bench = Bench([(2, 3, 6, 4)])
    term, weight = bench.conv((), 5, axis=2)
    shift, bias = bench.shift(5)
    y = torch.einsum("oi,abic->aboc", weight, bench.x[0]) + bias.reshape(-1, 1)
    check(bench, Linear((term,), shift, 2), y, "Transpose", "MatMul", "Transpose", "Add")


def test_a_product_in_groups_is_counted_and_written_dense() -> None:
    bench = Bench([(3, 6)])
    key, weight = bench.tensor(4, 3, 1, 1)
    inner = Map("conv", 4, 6, 1, point(2), 2, Given(key))
    grouped = seen(inner, 1)
    assert grouped.groups == 2
    assert isinstance(grouped.recipe, Seen)
    whole = torch.block_diag(weight[:2, :, 0, 0], weight[2:, :, 0, 0])
    node = Linear((Term(grouped, 0),))
    found, cost = bench.written(node, bench.x[0] @ whole.t())
    assert found == ["Gemm"]
    assert cost.macs == 3 * 4 * 6


@pytest.mark.parametrize("opset", [7, 11, 17])
@pytest.mark.parametrize(("lo", "hi", "stride"), [(0, 0, 2), (1, 0, 2), (1, -1, 2), (2, 1, 3), (0, -1, 2)])
def test_a_transposed_convolution_is_one_node(opset, lo, hi, stride) -> None:
    bench = Bench([IMAGE], opset)
    key, weight = bench.tensor(6, 2, 3, 3)
    shift, bias = bench.shift(4)
    window = (Axis(3, stride, 1, lo, hi), Axis(3, stride, 1, lo, hi))
    m = Map("transposed", 4, 6, 1, window, 2, Given(key))
    whole = F.conv_transpose2d(bench.x[0], weight, None, stride, groups=2)
    y = F.pad(whole, (-lo, -hi, -lo, -hi)) + bias.reshape(-1, 1, 1)
    check(bench, Linear((Term(m, 0),), shift, 1), y, "ConvTranspose")


@pytest.mark.parametrize("opset", [7, 10, 13, 19, 22])
@pytest.mark.parametrize(
    ("window", "divisor", "nodes"),
    [
        ((Axis(3, 2, 1, 1, 0), Axis(2, 1, 1, 0, 1)), 6, ["AveragePool"]),
        ((Axis(2, 2), Axis(2, 2)), 1, ["AveragePool", "Mul"]),
        ((Axis(3, 1, 1, 3, 0), Axis(2, 1, 1, 0, -1)), 6, ["Pad", "AveragePool"]),
        ((Axis(3, 1, 1, -1, 2), Axis(2, 2, 1, 0, -1)), 6, ["Slice", "AveragePool"]),
        ((Axis(1, 1, 1, 1, 2), Axis(1, 1, 1, 0, 3)), 1, ["Pad"]),
        ((Axis(1, 1, 1, -1, 2), Axis(1, 1, 1, 0, -2)), 1, ["Pad"]),
        ((Axis(1, 1, 1, -1, 0), Axis(1, 1, 1, -2, -1)), 1, ["Slice"]),
        ((Axis(1, 1, 1, 1, 0), Axis()), 4, ["Pad", "Mul"]),
        ((Axis(), Axis()), 1, ["AveragePool"]),
    ],
)
def test_a_pooling_holds_small_padding_and_pads_and_crops_are_nodes(opset, window, divisor, nodes) -> None:
    bench = Bench([IMAGE], opset)
    m = Map("pool", 6, 6, 1, window, 6, Given(("average", divisor)))
    kernel = torch.full((6, 1, *(a.kernel for a in window)), 1 / divisor, dtype=torch.float64)
    y = F.conv2d(padded(bench.x[0], window), kernel, None, [a.stride for a in window], groups=6)
    check(bench, Linear((Term(m, 0),)), y, *nodes)


@pytest.mark.parametrize(
    ("opset", "window", "nodes"),
    [
        (9, (Axis(1, 2), Axis(1, 3)), ["AveragePool"]),
        (9, (Axis(1, 2, 1, -1, 0), Axis(1, 3, 1, 0, -1)), ["Slice", "AveragePool"]),
        (9, (Axis(1, 2, 1, 1, -1), Axis(1, 3)), ["Pad", "AveragePool"]),
        (10, (Axis(1, 2), Axis(1, 3)), ["Slice"]),
        (17, (Axis(1, 2, 1, -1, 0), Axis(1, 3, 1, 0, -1)), ["Slice"]),
        (17, (Axis(1, 2, 1, 1, -1), Axis(1, 3)), ["Pad", "Slice"]),
    ],
)
def test_a_strided_crop_is_one_slice_where_slices_have_steps(opset, window, nodes) -> None:
    bench = Bench([IMAGE], opset)
    m = Map("pool", 6, 6, 1, window, 6, Given(("average", 1)))
    y = padded(bench.x[0], window)[:, :, :: window[0].stride, :: window[1].stride]
    check(bench, Linear((Term(m, 0),)), y, *nodes)


def test_a_part_of_a_pooling_knows_its_divisor() -> None:
    bench = Bench([IMAGE])
    window = (Axis(2, 2), Axis(2, 2))
    whole = Map("pool", 9, 9, 1, window, 9, Given(("average", 2)))
    part = Map("pool", 6, 6, 1, window, 6, Block(whole, 0, 6, True))
    check(bench, Linear((Term(part, 0),)), 2 * F.avg_pool2d(bench.x[0], 2), "AveragePool", "Mul")


def test_a_pooling_with_dilation_is_written_where_averages_have_one() -> None:
    window = (Axis(2, 1, 2), Axis(2, 1, 3, 1, 0))
    m = Map("pool", 6, 6, 1, window, 6, Given(("average", 4)))
    bench = Bench([IMAGE], 19)
    kernel = torch.full((6, 1, 2, 2), 0.25, dtype=torch.float64)
    y = F.conv2d(padded(bench.x[0], window), kernel, dilation=(2, 3), groups=6)
    check(bench, Linear((Term(m, 0),)), y, "AveragePool")
    old = Bench([IMAGE], 18)
    captured = old.captured(y.shape)
    after = Program(captured.program.values, {1: Linear((Term(m, 0),))}, (0,), (1,))
    assert pricer(False, 18)(after, 1, after.nodes[1], False) == PROHIBITIVE
    with pytest.raises(NotFoldable, match="no form in ONNX"):
        emit(captured, after)


@pytest.mark.parametrize("opset", [7, 10, 13])
@pytest.mark.parametrize(
    ("index", "axis", "node"),
    [
        ((1, 2, 3), 1, "Slice"),
        ((4,), 1, "Slice"),
        ((5, 4, 3, 2, 1, 0), 1, "Slice"),
        ((5, 3, 1), 1, "Slice"),
        ((0, 3, 1, 4), 1, "Gather"),
        ((2, 2), 1, "Gather"),
        ((0, 2, 4, 6), 3, "Slice"),
    ],
)
def test_a_selection_is_one_node(opset, index, axis, node) -> None:
    bench = Bench([IMAGE], opset)
    plain = len(index) == 1 or index[1] - index[0] == 1
    y = bench.x[0].index_select(axis, torch.tensor(index))
    m = select(index, IMAGE[axis], axis)
    check(bench, Linear((Term(m, 0),)), y, node if opset >= 10 or plain else "Gather")


@pytest.mark.parametrize("opset", [7, 9, 14, 15, 22])
@pytest.mark.parametrize("shape", [(3, 6), (3, 6, 4), IMAGE, (2, 6, 3, 2, 2)])
def test_a_scale_and_a_shift_of_channels_are_one_normalisation(opset, shape) -> None:
    bench = Bench([shape], opset)
    key, scale = bench.tensor(6)
    shift, bias = bench.shift(6)
    form = (-1, *(1,) * (len(shape) - 2))
    m = Map("diagonal", 6, 6, 1, recipe=Given(key))
    y = bench.x[0] * scale.reshape(form) + bias.reshape(form)
    check(bench, Linear((Term(m, 0),), shift, 1), y, "BatchNormalization")
    one, number = bench.shift(1)
    check(bench, Linear((Term(m, 0),), one), bench.x[0] * scale.reshape(form) + number, "BatchNormalization")
    check(bench, Linear((Term(m, 0),)), bench.x[0] * scale.reshape(form), "Mul")


def test_a_scale_and_a_shift_elsewhere_are_two_nodes() -> None:
    bench = Bench([(2, 3, 6)])
    key, scale = bench.tensor(6)
    shift, bias = bench.shift(6)
    last = Map("diagonal", 6, 6, 2, recipe=Given(key))
    check(bench, Linear((Term(last, 0),), shift, 2), bench.x[0] * scale + bias, "Mul", "Add")
    other, inner = bench.shift(3)
    y = bench.x[0] * scale + inner.reshape(3, 1)
    check(bench, Linear((Term(last, 0),), other, 1), y, "Mul", "Add")
    key, number = bench.tensor(1)
    scalar = Map("scalar", recipe=Given(key))
    check(bench, Linear((Term(scalar, 0),), shift, 2), bench.x[0] * number + bias, "Mul", "Add")


def test_a_sum_adds_and_subtracts() -> None:
    shape = (2, 6, 4)
    bench = Bench([shape] * 3)
    x, y, z = bench.x
    minus, half = Map("scalar", factor=-1.0), Map("scalar", factor=0.5)
    one, number = bench.shift(1)
    check(bench, Linear((Term(IDENTITY, 0), Term(IDENTITY, 1), Term(IDENTITY, 2))), x + y + z, "Add", "Add")
    check(bench, Linear((Term(minus, 0), Term(IDENTITY, 1))), y - x, "Sub")
    check(bench, Linear((Term(half, 0), Term(minus, 1))), 0.5 * x - y, "Mul", "Sub")
    check(bench, Linear((Term(minus, 0),)), -x, "Neg")
    check(bench, Linear((Term(minus, 0), Term(minus, 1))), -x - y, "Neg", "Sub")
    check(bench, Linear((Term(minus, 0),), one), number - x, "Sub")
    check(bench, Linear((Term(minus, 0), Term(minus, 2)), one), number - x - z, "Sub", "Sub")
    check(bench, Linear((Term(IDENTITY, 0),), one), x + number, "Add")
    check(bench, Linear((Term(half, 2),)), z / 2, "Mul")


def test_one_convolution_of_a_sum_takes_the_bias_in() -> None:
    bench = Bench([(2, 6, 5, 5), (2, 4, 5, 5)])
    (one, w1), (two, w2) = bench.conv(point(2), 4), bench.conv(point(2), 4, source=1)
    shift, bias = bench.shift(4)
    y = F.conv2d(bench.x[0], w1, bias) + F.conv2d(bench.x[1], w2)
    check(bench, Linear((one, two), shift, 1), y, "Conv", "Conv", "Add")
    check(bench, Linear((Term(IDENTITY, 1), one), shift, 1), F.conv2d(bench.x[0], w1, bias) + bench.x[1], "Conv", "Add")


def test_a_bias_on_another_axis_than_the_convolution_is_added() -> None:
    bench = Bench([(2, 6, 5, 3)])
    term, weight = bench.conv(point(2), 4)
    shift, bias = bench.shift(3)
    check(bench, Linear((term,), shift, 3), F.conv2d(bench.x[0], weight) + bias, "Conv", "Add")


def test_a_bias_map_is_added_where_sizes_are_fixed_and_refused_where_they_are_open() -> None:
    bench = Bench([(2, 3, 5, 4)])
    window = (Axis(3, 1, 1, 1, 1), Axis(3, 1, 1, 1, 1))
    term, weight = bench.conv(window, 4)
    shift, bias = bench.shift(3)
    node = Linear((term,), ShiftMap(shift, term.map, (5, 4)), 1)
    y = F.conv2d(bench.x[0] + bias.reshape(-1, 1, 1), weight, padding=1)
    check(bench, node, y, "Conv", "Add")
    bench.open = True
    captured = bench.captured(y.shape)
    after = Program(captured.program.values, {1: node}, (0,), (1,))
    cost = pricer(True, 17)(after, 1, node, False)
    before = price(after, 1, Opaque((0,), 10**15, 10**5, 10**5), True)
    assert not any(objective(cost.minus(before)) for objective in (by_macs, by_operators, by_latency))
    with pytest.raises(NotFoldable, match="sizes that the file leaves open"):
        emit(captured, after)


def test_a_plus_of_maps_is_one_convolution() -> None:
    bench = Bench([IMAGE])
    window = (Axis(3, 1, 1, 1, 1), Axis(3, 1, 1, 1, 1))
    term, weight = bench.conv(window, 6)
    both = Map("conv", 6, 6, 1, window, 1, Plus((term.map, IDENTITY)))
    y = F.conv2d(bench.x[0], weight, padding=1) + bench.x[0]
    check(bench, Linear((Term(both, 0),)), y, "Conv")


def test_a_scale_of_channels_with_a_shift_elsewhere_is_no_normalisation() -> None:
    bench = Bench([(2, 3, 6)])
    key, scale = bench.tensor(3)
    shift, bias = bench.shift(6)
    m = Map("diagonal", 3, 3, 1, recipe=Given(key))
    check(bench, Linear((Term(m, 0),), shift, 2), bench.x[0] * scale.reshape(3, 1) + bias, "Mul", "Add")
