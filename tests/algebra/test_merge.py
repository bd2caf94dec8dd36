"""A3, A4 and A6: branches that are added or concatenated, on one window."""

from __future__ import annotations

import pytest
import torch

from convfold.algebra import (
    AvgPool,
    Concat,
    Identity,
    Pad,
    Select,
    kernel,
    regroup,
    regroup_rows,
    sum_of,
)
from convfold.errors import NotFoldable
from convfold.geometry import Axis, conv_window, embed, point
from support.make import Make
from support.oracle import assert_kernel, assert_same

SIZES = {0: [()], 1: [(9,), (8,)], 2: [(7, 6), (6, 5)], 3: [(4, 3, 5)]}


def window(dims, kernels, stride=1, dilation=1):
    """An outer window of five and four taps, and inner kernels centred in it."""
    outer = tuple(Axis(k, stride, dilation, 2 * dilation, dilation) for k in (5, 4, 3)[:dims])
    return tuple(embed(axis, k) for axis, k in zip(outer, kernels, strict=True))


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_every_kernel_inside_another_is_added_to_it(dims, stride, dilation):
    """1x1, 1xK, Kx1, even and odd: each sits around the common centre."""
    make, groups = Make(1), {1: (2, 4), 2: (2, 4), 3: (1, 2)}[dims]
    channels = groups[1]
    size = tuple(n + 3 * (dilation - 1) for n in (6, 5, 4)[:dims])
    outer = make.conv(channels, channels, window(dims, (5, 4, 3)[:dims], stride, dilation), groups[0])
    total = outer
    for inner in [(1, 1, 1), (1, 4, 1), (5, 1, 3), (2, 3, 1), (3, 2, 2)]:
        branch = make.conv(channels, channels, window(dims, inner[:dims], stride, dilation), groups[1])
        assert kernel(outer + branch).window == outer.window
        if dims < 3:
            assert_kernel(outer + branch, size)
        total = total + branch
    assert_kernel(total, size)


@pytest.mark.parametrize("groups", [(1, 1), (4, 1), (2, 4), (4, 6), (12, 12)], ids=str)
@pytest.mark.parametrize("dims", [0, 1, 2])
def test_branches_with_different_groups(dims, groups):
    make = Make(2)
    terms = [make.conv(12, 24 if 12 in groups else 12, make.same(dims), g) for g in groups]
    reduced = assert_kernel(sum_of(*terms), *[size[:dims] for size in SIZES[dims]])
    assert reduced.groups == torch.gcd(*map(torch.tensor, groups)).item()


@pytest.mark.parametrize("groups", [(6, 1), (6, 2), (6, 3), (4, 2)], ids=str)
def test_regrouping_writes_blocks_on_the_diagonal(groups):
    many, fewer = groups
    weight = Make(3).tensor(2 * many, 3, 2)
    wide = regroup(weight, many, fewer)
    assert wide.shape == (2 * many, 3 * many // fewer, 2)
    full = torch.zeros(2 * many, 3 * many, 2, dtype=torch.float64)
    for g in range(many):
        full[2 * g : 2 * g + 2, 3 * g : 3 * g + 3] = weight[2 * g : 2 * g + 2]
    assert torch.equal(regroup(wide, fewer, 1), full)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_lattices_of_different_dilations(dims):
    """Two and three between taps need every position; two and four keep a lattice of two."""
    make, size = Make(4), {1: (15,), 2: (11, 10), 3: (9, 8, 9)}[dims]
    channels = 2 if dims < 3 else 1

    def dilated(dilation, kernel):
        reach = dilation * (kernel - 1) // 2
        return make.conv(channels, channels, (Axis(kernel, 1, dilation, reach, reach),) * dims)

    reduced = assert_kernel(dilated(2, 3) + dilated(4, 3), size)
    assert reduced.window == (Axis(5, 1, 2, 4, 4),) * dims
    reduced = assert_kernel(dilated(2, 3) + dilated(3, 3), size)
    assert reduced.window == (Axis(7, 1, 1, 3, 3),) * dims
    # A single tap between two others halves the lattice.
    reduced = assert_kernel(dilated(2, 2) + make.conv(channels, channels, point(dims)), size)
    assert reduced.window[0].kernel == 3


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_branches_share_the_padding_mode_and_those_without_padding_do_not_care(mode):
    make = Make(5)
    padded = make.conv(3, 3, make.same(2), mode=mode)
    other = "reflect" if mode == "zeros" else "zeros"
    inner = make.conv(3, 3, point(2), mode=other)
    assert assert_kernel(padded + inner + Identity(3, 2), (6, 7)).padding_mode == mode
    assert assert_kernel(Concat((inner, padded)), (6, 7)).padding_mode == mode
    clash = make.conv(3, 3, make.same(2), mode=other)
    for expression in (padded + clash, Concat((padded, clash))):
        with pytest.raises(NotFoldable, match="pad in different modes"):
            kernel(expression)


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_branches_of_every_kind(dims):
    """An identity, a normalisation, a pooling, a selection and a chain beside convolutions."""
    make = Make(6)
    terms = [
        make.conv(4, 4, make.same(dims), 2) >> make.norm(4, dims),
        make.norm(4, dims),
        Identity(4, dims),
        Select((1, 1, 3, 0), 4, dims),
        make.conv(4, 6, make.same(dims, 1), bias=False) >> make.conv(6, 4, make.same(dims), 2),
    ]
    if dims:
        terms.append(AvgPool(4, make.same(dims)) >> make.norm(4, dims))
    assert_kernel(sum_of(*terms), *SIZES[dims])
    for keep in range(len(terms)):
        assert_kernel(sum_of(*(t for i, t in enumerate(terms) if i != keep)), SIZES[dims][0])


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_concatenated_rows(dims):
    make = Make(7)
    terms = (
        make.conv(4, 3, make.same(dims)),
        make.conv(4, 2, make.same(dims, 1), 2, bias=False) >> make.norm(2, dims),
        Identity(4, dims),
    )
    reduced = assert_kernel(Concat(terms), *SIZES[dims])
    assert (reduced.groups, reduced.out_channels) == (1, 9)
    without = tuple(make.conv(4, n, make.same(dims), bias=False) for n in (1, 3))
    assert assert_kernel(Concat(without), *SIZES[dims]).bias is None
    assert_kernel(Concat(terms[:1]), *SIZES[dims])


BLOCKS = {
    "equal blocks": ([(4, 6, 1), (4, 6, 1)], 2),
    "blocks with groups of their own": ([(4, 8, 2), (4, 8, 4)], 4),
    "depthwise blocks of unequal width": ([(2, 4, 2), (3, 6, 3), (1, 2, 1)], 6),
    "one group size covers them": ([(4, 4, 2), (6, 6, 3), (2, 2, 2)], 6),
    "blocks that widen differently": ([(4, 4, 2), (4, 8, 2)], 1),
    "no common group size": ([(4, 4, 1), (6, 6, 1)], 1),
}


@pytest.mark.parametrize("case", BLOCKS)
@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_concatenated_blocks_are_groups_wherever_groups_can_hold_them(dims, case):
    rows, groups = BLOCKS[case]
    make, start, terms, total = Make(8), 0, [], sum(row[0] for row in rows)
    for i, (inputs, outputs, g) in enumerate(rows):
        conv = make.conv(inputs, outputs, make.same(dims, 1 if i else 3), g, bias=i != 1)
        terms.append(Select.block(start, start + inputs, total, dims) >> conv >> make.norm(outputs, dims))
        start += inputs
    assert assert_kernel(Concat(tuple(terms)), *SIZES[dims]).groups == groups
    # Out of order they are no groups, but rows.
    assert_kernel(Concat(tuple(reversed(terms))), *SIZES[dims])


def test_a_block_that_is_only_passed_on():
    """ShuffleNet's and GhostNet's split: half goes through a convolution, half goes on as it is."""
    make = Make(9)
    half = Select.block(0, 4, 8, 2) >> make.conv(4, 4, make.same(2), 4)
    reduced = assert_kernel(Concat((half, Select.block(4, 8, 8, 2))) >> Select.shuffle(8, 2, 2), (5, 6))
    assert reduced.out_channels == 8
    assert assert_kernel(Concat((half, Select.block(4, 8, 8, 2))), (5, 6)).groups == 8


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("bias", [(True, True, True), (False, True, False), (False, False, False)], ids=str)
@pytest.mark.parametrize("dims", [0, 1, 2])
def test_grouped_branches_keep_their_groups_up_to_a_permutation(dims, groups, bias):
    make = Make(10)
    widths = (4, 8, 12)
    convs = tuple(
        make.conv(4, w, make.same(dims, k), groups, b) for w, k, b in zip(widths, (3, 1, 3), bias, strict=True)
    )
    conv, order = regroup_rows(convs)
    assert conv.groups == groups
    assert sorted(order.index) == list(range(24))
    assert (conv.bias is None) == (not any(bias))
    assert_same(Concat(convs), conv >> order, *SIZES[dims])
    with pytest.raises(NotFoldable, match="different groups"):
        regroup_rows((make.conv(4, 4, (), 1), make.conv(4, 4, (), 2)))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_padding_before_a_branch_belongs_to_its_window(dims):
    make = Make(11)
    inner = make.conv(3, 3, conv_window(dims, 3))
    padded = Pad(3, ((1, 1),) * dims) >> inner
    reduced = assert_kernel(padded + make.conv(3, 3, point(dims)), *SIZES[dims])
    assert reduced.window == make.same(dims)
    cropped = make.conv(3, 3, make.same(dims)) >> Pad(3, ((-1, -1),) * dims)
    assert assert_kernel(cropped + inner, *SIZES[dims]).window == inner.window
