"""Windows against loops over positions: chains, unions, embeddings and output sizes, for every input size."""

from __future__ import annotations

from math import gcd

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convfold.errors import NotFoldable
from convfold.geometry import (
    Axis,
    chain,
    conv_window,
    embed,
    has_padding,
    out_size,
    point,
    transposed_size,
    union,
)
from support.strategies import axes


def reads(axis, i):
    """The input positions that output i reads, by the definition."""
    return [axis.stride * i - axis.lo + axis.dilation * j for j in range(axis.kernel)]


def length(axis, n):
    """The output size by counting: positions whose first and last tap lie inside the padded input."""
    i = 0
    while reads(axis, i)[-1] <= n + axis.hi - 1:
        i += 1
    return i


@given(axes(), st.integers(8, 20))
def test_out_size_counts_positions(axis, n):
    assert out_size((axis,), (n,)) == (length(axis, n),)


@given(axes(), axes(), st.integers(16, 40))
def test_a_chain_reads_what_its_parts_read(u, t, n):
    (chained,) = chain((u,), (t,))
    middle = length(u, n)
    assert out_size((chained,), (n,)) == out_size((t,), (middle,))
    for i in range(3):
        both = {q for p in reads(t, i) for q in reads(u, p)}
        assert both <= set(reads(chained, i))
        assert (min(both), max(both)) == (reads(chained, i)[0], reads(chained, i)[-1])


@given(axes(), axes())
def test_a_chain_has_no_finer_lattice_than_needed(u, t):
    (chained,) = chain((u,), (t,))
    taps = {q for p in reads(t, 0) for q in reads(u, p)}
    assert chained.dilation == (gcd(*(tap - min(taps) for tap in taps)) or 1)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(-2, 4)), min_size=1, max_size=4))
def test_a_union_holds_each_window_where_its_placement_says(rows):
    slack = 1
    branches = tuple(((Axis(k, 2, d, lo, slack + d * (k - 1) + 1 - lo)),) for k, d, lo in rows)
    (merged,), placements = union(branches)
    assert merged.slack == slack
    assert merged.stride == 2
    grid = reads(merged, 5)
    for (axis,), (placement,) in zip(branches, placements, strict=True):
        assert placement.size == merged.kernel
        assert [grid[placement.start + placement.step * j] for j in range(axis.kernel)] == reads(axis, 5)
    taps = {p for (axis,) in branches for p in reads(axis, 5)}
    assert (min(taps), max(taps)) == (grid[0], grid[-1])
    assert has_padding((merged,)) == any(has_padding(branch) for branch in branches)


@pytest.mark.parametrize("kernel", range(1, 8))
@pytest.mark.parametrize("inner", range(1, 8))
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 3)])
def test_an_embedded_window_is_centred_and_keeps_the_size(kernel, inner, stride, dilation):
    axis = Axis(kernel, stride, dilation, 2, 3)
    small = embed(axis, inner)
    assert small.kernel == inner
    assert small.slack == axis.slack
    centre, inner_centre = (kernel - 1) // 2, (inner - 1) // 2
    assert reads(small, 3)[inner_centre] == reads(axis, 3)[centre]
    if inner > 1:
        assert small.dilation == dilation
    if inner <= kernel:
        assert set(reads(small, 0)) <= set(reads(axis, 0))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    "arguments",
    [
        {"kernel_size": 3},
        {"kernel_size": 4, "padding": "same"},
        {"kernel_size": 3, "padding": "same", "dilation": 3},
        {"kernel_size": 5, "padding": "valid", "stride": 2},
        {"kernel_size": 2, "stride": 3, "padding": 2, "dilation": 2},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:Using padding=.same")
def test_conv_window_is_that_of_the_module(dims, arguments):
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims](1, 1, **arguments)
    size = (11, 8, 9)[:dims]
    expected = tuple(conv(torch.zeros(1, 1, *size)).shape[2:])
    window = conv_window(dims, **arguments)
    assert out_size(window, size) == expected
    if arguments.get("padding") == "same":
        low = list(conv._reversed_padding_repeated_twice[::2])
        assert [axis.lo for axis in reversed(window)] == low


def test_conv_window_takes_tuples_and_one_element_for_all():
    assert conv_window(2, (3, 5), 1, [1, 2]) == (Axis(3, lo=1, hi=1), Axis(5, lo=2, hi=2))
    assert conv_window(3, (3,)) == (Axis(3),) * 3
    assert conv_window(0, ()) == point(0) == ()


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "padding", "extra"),
    [(3, 2, 1, 1, 1), (4, 2, 1, 1, 0), (2, 3, 1, 0, 2), (3, 1, 2, 2, 1), (1, 2, 1, 0, 0)],
)
def test_transposed_size_is_that_of_the_module(kernel, stride, dilation, padding, extra):
    conv = nn.ConvTranspose1d(1, 1, kernel, stride, padding, extra, dilation=dilation)
    for n in (3, 4, 7):
        axis = Axis(kernel, stride, dilation, padding, padding - extra)
        assert transposed_size(axis, n) == conv(torch.zeros(1, 1, n)).shape[2]


def test_windows_of_different_sizes_do_not_merge():
    with pytest.raises(NotFoldable, match="different output sizes"):
        union(((Axis(3, lo=1, hi=1),), (Axis(1, lo=1, hi=1),)))
    with pytest.raises(NotFoldable, match=r"different strides \[1, 2\]"):
        union(((Axis(3, 2, lo=1, hi=1),), (Axis(3, 1, lo=1, hi=1),)))


@given(axes(crop=False), axes(crop=False))
def test_two_slacks_that_differ_give_different_sizes_somewhere(a, b):
    a, b = (Axis(x.kernel, 2, x.dilation, x.lo, x.hi) for x in (a, b))
    same = all(length(a, n) == length(b, n) for n in range(8, 14))
    assert same == (a.slack == b.slack)
