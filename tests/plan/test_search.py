"""The search on small programs: what it must find, and that every value that is left keeps its values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import convfold
from convfold.graph.program import Concat, Linear, Spatial
from convfold.plan.search.price import by_macs
from convfold.plan.search.search import search
from plan.programs import Build

Case = Callable[[], tuple[Build, tuple[int, int]]]


def _planned(b: Build, *outputs: int) -> tuple[int, int, int]:
    """(convolutions, operators, MACs) after; every value left is compared in float64."""
    program = b.done(*outputs)
    before = b.run(program)
    for both in (False, True):
        found = search(program, both=both)
        after = b.run(found.program)
        for number, value in after.items():
            assert tuple(value.shape) == found.program.values[number].shape
        for number in set(before) & set(after):
            torch.testing.assert_close(after[number], before[number], rtol=1e-11, atol=1e-11)
        assert max(found.price[:3]) >= 0
    return found.price.convolutions, found.price.operators, found.price.macs


def test_a_repvgg_block_is_one_convolution() -> None:
    b = Build(2, 4, 6, 7)
    dense = b.norm(b.conv(b.x, 4, 3, padding=1, bias=False))
    point = b.norm(b.conv(b.x, 4, 1))
    y = b.act(b.add(b.add(dense, point), b.norm(b.x)))
    assert _planned(b, y)[:2] == (1, 2)


def test_a_chain_over_a_shared_value() -> None:
    b = Build(1, 4, 6, 7)
    h = b.act(b.conv(b.x, 8))
    v = b.conv(h, 4)
    e = b.conv(v, 8)
    y = b.add(b.opaque(v), b.conv(b.act(e), 4))
    assert _planned(b, y)[0] == 4


def test_a_chain_that_narrows_is_left_alone() -> None:
    b = Build(1, 16, 5, 5)
    assert _planned(b, b.conv(b.conv(b.x, 2), 16))[0] == 2


def test_depthwise_and_pointwise_are_left_alone() -> None:
    b = Build(1, 8, 5, 5)
    assert _planned(b, b.conv(b.conv(b.x, 8, 3, groups=8, padding=1, bias=False), 8))[0] == 2


def test_dbb_with_a_zero_padded_bias_gets_a_bias_map() -> None:
    b = Build(1, 4, 6, 6)
    one = b.norm(b.conv(b.x, 4, 3, padding=1, bias=False))
    two = b.norm(b.conv(b.x, 4, 1, bias=False))
    three = b.norm(b.conv(b.norm(b.conv(b.x, 4, 1, bias=False)), 4, 3, padding=1, bias=False))
    four = b.norm(b.pool(b.norm(b.conv(b.x, 4, 1, bias=False))))
    y = b.act(b.add(b.add(one, two), b.add(three, four)))
    assert _planned(b, y)[:2] == (1, 3)


def test_pooling_moves_before_a_pointwise_convolution() -> None:
    b = Build(1, 8, 8, 8)
    y = b.opaque(b.pool(b.conv(b.act(b.x), 4), 2, 2, 0))
    b.done(y)
    assert _planned(b, y) == (1, 4, 16 * 32)


def test_a_norm_through_a_mean_into_the_head() -> None:
    b = Build(2, 6, 5, 5)
    pooled = b.spatial(b.norm(b.act(b.x)), "mean", ((1, 1),))
    flat = b.spatial(pooled, "flatten", ((1, 1),), free=True)
    y = b.linear(flat, 3)
    assert _planned(b, y)[:2] == (1, 3)


def test_two_heads_are_one() -> None:
    b = Build(2, 6)
    x = b.act(b.x)
    y = b.scale(b.add(b.linear(b.norm(x), 5), b.linear(b.norm(x), 5)), 0.5)
    assert _planned(b, y)[:2] == (1, 2)


def test_a_norm_through_a_concatenation() -> None:
    b = Build(1, 4, 6, 6)
    x, z = b.act(b.x), b.act(b.x, "tanh")
    y = b.norm(b.concat(b.conv(x, 4, 3, padding=1), b.conv(z, 6, 5, padding=2, groups=2)))
    assert _planned(b, b.act(y))[:2] == (2, 6)


@pytest.mark.parametrize("rows", [3, 9, 12])
def test_groups_with_other_outputs_than_inputs_go_through_a_concatenation(rows: int) -> None:
    """The bias of each piece is that of its rows, wherever its columns begin."""
    b = Build(1, 2, 6, 6)
    x, z = b.act(b.x), b.act(b.x, "tanh")
    y = b.conv(b.norm(b.concat(b.conv(x, 4), b.conv(z, 2))), rows, groups=3)
    assert _planned(b, b.act(y))[:2] == (2, 6)


def test_a_function_sinks_through_a_concatenation() -> None:
    b = Build(1, 4, 6, 6)
    y = b.concat(b.act(b.norm(b.conv(b.x, 4))), b.act(b.norm(b.conv(b.x, 6, 3, padding=1))))
    assert _planned(b, b.opaque(y))[:2] == (2, 5)


def test_rows_of_one_input_merge_when_read_whole() -> None:
    b = Build(1, 4, 6, 6)
    y = b.concat(b.conv(b.x, 4), b.norm(b.conv(b.x, 6, bias=False)), b.conv(b.act(b.x), 2))
    assert _planned(b, b.act(y))[:2] == (2, 5)


def test_pieces_join_a_convolution_by_columns() -> None:
    b = Build(1, 4, 6, 6)
    x, z = b.act(b.x), b.act(b.x, "tanh")
    y = b.conv(b.concat(b.norm(x), b.norm(z), x), 5)
    assert _planned(b, y)[:2] == (1, 4)


def test_a_norm_on_tokens_goes_back_into_the_convolution() -> None:
    b = Build(2, 4, 3, 5)
    tokens = b.spatial(
        b.spatial(b.conv(b.x, 6, 3, padding=1), "flat", ((1, 1),), free=True), "turn", ((1, 2),), free=True
    )
    y = b.norm(tokens, axis=2)
    assert _planned(b, b.act(y))[:2] == (1, 2)


def test_a_norm_behind_a_pixel_shuffle() -> None:
    b = Build(1, 4, 4, 4)
    shuffled = b.spatial(b.conv(b.x, 8, 3, padding=1), "shuffle", ((1, 1),), free=True, spread=(4, 1))
    y = b.norm(shuffled, shift=False)
    assert _planned(b, b.act(y))[:2] == (1, 2)


def test_a_norm_before_a_flatten() -> None:
    b = Build(2, 3, 4, 4)
    flat = b.spatial(b.norm(b.act(b.x), shift=False), "flatten", ((1, 1),), free=True, spread=(1, 16))
    assert _planned(b, b.linear(flat, 5))[:2] == (1, 2)


def test_a_bias_does_not_pass_zero_padding_in_between() -> None:
    b = Build(1, 3, 6, 6)
    y = b.conv(b.conv(b.x, 3, 3, padding=1), 3, 3, padding=1)
    assert _planned(b, y)[0] == 2


def test_a_replicated_edge_lets_a_pointwise_convolution_pass() -> None:
    b = Build(1, 3, 6, 6)
    edge = b.spatial(b.conv(b.x, 3), "edge", ((1, 1),))
    assert _planned(b, b.conv(edge, 3, 3))[:2] == (1, 2)


@pytest.mark.parametrize("length", [50, 400])
def test_a_long_chain_collapses_without_recursion(length: int) -> None:
    b = Build(1, 4, 3, 3)
    value = b.x
    for _ in range(length):
        value = b.norm(value)
    assert _planned(b, b.conv(value, 4))[:2] == (1, 1)


def test_a_transposed_convolution_of_a_pooling_that_was_not_there_before() -> None:
    model = nn.Sequential(nn.Conv2d(6, 3, 1, bias=False), nn.AvgPool2d((2, 1), 2), nn.ConvTranspose2d(3, 3, 2)).eval()
    x = torch.randn(1, 6, 9, 8)
    folded = convfold.fold(model, x)
    assert convfold.cost(folded, x).macs < convfold.cost(model, x).macs
    torch.testing.assert_close(folded(x), model(x))


def test_kept_values_stay() -> None:
    b = Build(1, 4, 6, 6)
    middle = b.conv(b.x, 4)
    y = b.norm(middle)
    found = search(b.done(y), kept=frozenset({middle}))
    assert middle in found.program.nodes
    assert found.price == search(b.program, kept=frozenset({middle, y})).price
    assert isinstance(found.program.nodes[y], Linear)


def test_nothing_gets_dearer_and_the_moves_add_up() -> None:
    b = Build(1, 4, 6, 6)
    y = b.act(b.norm(b.conv(b.norm(b.conv(b.x, 4)), 4, 3)))
    program = b.done(y)
    found = search(program)
    total = search(program, kept=frozenset(range(len(program.values)))).price
    for step in found.accepted:
        assert by_macs(step.change)
        total = total.plus(step.change)
    assert total == found.price
    assert not any(isinstance(node, (Concat, Spatial)) for node in found.program.nodes.values())


def test_a_crop_of_a_crop_is_not_read_in_its_own_place() -> None:
    """Two crops are one, and that one is what a repeated crop would be: a value must not become its own source."""
    b = Build(1, 4, 9, 9)
    first = b.crop(b.norm(b.x), (-1, 0))
    y = b.norm(b.add(b.conv(b.x, 4, 3), b.crop(first, (0, -1))))
    assert _planned(b, y)[:2] == (1, 1)


def test_a_pooling_of_every_other_position_is_no_pooling() -> None:
    """Its taps lie apart, and a pooling has no dilation."""
    model = nn.Sequential(nn.ReLU(), nn.AvgPool2d(1, 2), nn.AvgPool2d(3, 1), nn.Conv2d(4, 4, 1)).eval()
    x = torch.randn(1, 4, 15, 15)
    folded = convfold.fold(model, x)
    torch.testing.assert_close(folded(x), model(x))
    assert convfold.cost(folded, x).operators <= convfold.cost(model, x).operators


def test_what_stands_before_a_value_that_stays_alive_folds() -> None:
    b = Build(1, 4, 6, 6)
    alive = b.norm(b.conv(b.x, 4))
    y = b.act(b.x)
    program = b.done(y)
    found = search(program, alive=frozenset({alive}))
    assert found.price.operators == 2
    assert found.price == search(b.done(y, alive)).price


def test_pieces_of_what_strides_have_its_size() -> None:
    b = Build(1, 4, 8, 8)
    both = b.concat(b.conv(b.x, 4), b.conv(b.act(b.x), 4))
    convolutions, _, macs = _planned(b, b.act(b.conv(both, 8, 2, groups=8, stride=2, bias=False)))
    assert (convolutions, macs) == (2, 2 * 16 * 4 * 4 * 4)
