"""A7: average pooling, identity, padding, selection, permutation and shuffle as convolutions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convfold.algebra import AvgPool, Identity, Pad, Select, chain_of, kernel
from convfold.algebra.laws.select import columns_of, rows_of
from convfold.errors import NotFoldable
from convfold.geometry import Axis, point
from support.make import Make
from support.oracle import DOUBLE, assert_kernel, assert_same

SIZES = {0: [()], 1: [(9,), (8,)], 2: [(6, 7), (5, 4)], 3: [(4, 5, 3)]}
POOLS = {
    "plain": (Axis(3), Axis(2), Axis(1)),
    "counted padding": (Axis(3, 2, 1, 1, 1), Axis(3, 1, 1, 1, 1), Axis(2, 1, 1, 1, 0)),
    "uneven": (Axis(3, 2, 1, 2, 0), Axis(2, 1, 1, 0, 1), Axis(2, 2, 1, 0, 1)),
    "dilated": (Axis(3, 1, 2, 2, 2), Axis(2, 2, 3, 1, 1), Axis(2, 1, 2, 1, 1)),
}


@pytest.mark.parametrize("divisor", [None, 5])
@pytest.mark.parametrize("shape", POOLS)
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_pooling_is_a_depthwise_convolution(dims, shape, divisor):
    make = Make(1)
    pool = AvgPool(3, POOLS[shape][:dims], divisor=divisor)
    reduced = assert_kernel(pool, *SIZES[dims])
    assert (reduced.groups, reduced.weight.shape[1]) == (3, 1)
    assert_kernel(pool >> make.norm(3, dims), *SIZES[dims])
    assert_kernel(make.conv(2, 3, point(dims), bias=False) >> pool, *SIZES[dims])
    assert_kernel(pool >> make.conv(3, 2, point(dims)), *SIZES[dims])


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pooling_under_other_padding(mode):
    for counted in (True, False):
        pool = AvgPool(2, POOLS["counted padding"][:2], mode, counted)
        assert assert_kernel(pool, (6, 7)).padding_mode == mode


def test_pooling_whose_divisor_varies_is_refused():
    with pytest.raises(NotFoldable, match="count_include_pad=False lets its divisor vary"):
        kernel(AvgPool(2, (Axis(3, 1, 1, 1, 1),), count_include_pad=False))
    with pytest.raises(NotFoldable, match="ceil_mode lets its divisor vary"):
        kernel(AvgPool(2, (Axis(3, 2),), ceil_mode=True))
    assert_kernel(AvgPool(2, (Axis(3, 2),), count_include_pad=False), (8,))
    assert_kernel(AvgPool(2, (Axis(3, 1, 1, 1, 1),), count_include_pad=False, divisor=3), (8,))


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_identity_and_padding(dims):
    make = Make(2)
    assert torch.equal(kernel(Identity(3, dims), like=DOUBLE).weight.flatten(), torch.ones(3, dtype=torch.float64))
    assert_kernel(Identity(3, dims), *SIZES[dims])
    assert_kernel(Pad(3, ((1, 2), (-1, 0), (0, -1))[:dims]), *SIZES[dims])
    assert_kernel(Identity(3, dims) >> make.conv(3, 4, make.same(dims)) >> Identity(4, dims), *SIZES[dims])


@given(st.data())
def test_any_selection_around_a_grouped_convolution(data):
    """Permutations, repetitions and omissions, with as many groups kept as the selection allows."""
    make, dims = Make(data.draw(st.integers(0, 99))), data.draw(st.integers(0, 2))
    groups = data.draw(st.sampled_from([1, 2, 3, 6]))
    conv = make.conv(6, 12, make.same(dims), groups)
    entry = data.draw(st.integers(4, 8))
    before = Select(tuple(data.draw(st.lists(st.integers(0, entry - 1), min_size=6, max_size=6))), entry, dims)
    after = Select(tuple(data.draw(st.lists(st.integers(0, 11), min_size=1, max_size=13))), 12, dims)
    size = (4, 3)[:dims]
    assert_kernel(before >> conv, size)
    assert_kernel(conv >> after, size)
    assert_kernel(before >> conv >> after, size)


@pytest.mark.parametrize("dims", [0, 2])
def test_a_selection_inside_the_groups_keeps_them(dims):
    make = Make(3)
    conv = make.conv(8, 4, make.same(dims), 4)
    assert rows_of(conv, Select((0, 0, 1, 1, 2, 2, 3, 3), 4, dims)).groups == 4
    assert rows_of(conv, Select((1, 0, 3, 2), 4, dims)).groups == 2
    assert rows_of(conv, Select((3, 0), 4, dims)).groups == 1
    assert columns_of(Select((1, 0, 3, 3, 4, 5, 6, 7), 8, dims), conv).groups == 4
    assert columns_of(Select((0, 0, 1, 1, 2, 2, 3, 3), 4, dims), conv).groups == 4
    # Nine channels before: four groups cannot share them out.
    uneven = Select((0, 1, 2, 3, 4, 5, 6, 7), 9, dims)
    assert columns_of(uneven, conv).in_channels == 9
    assert_same(uneven >> conv, columns_of(uneven, conv), *SIZES[dims])


@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_a_shuffle_between_grouped_convolutions(dims):
    make = Make(4)
    first, second = make.conv(6, 6, point(dims), 2), make.conv(6, 4, point(dims), 2)
    shuffle = Select.shuffle(6, 2, dims)
    assert_kernel(first >> shuffle >> second, *SIZES[dims])
    assert_kernel(shuffle >> Select((5, 1, 1, 0), 6, dims), *SIZES[dims])
    unshuffle = Select.shuffle(6, 3, dims)
    reduced = kernel(shuffle >> unshuffle, like=DOUBLE)
    assert torch.equal(reduced.weight.reshape(6, 6), torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("dims", [1, 2])
def test_what_has_no_weights_composes_too(dims):
    pool, make = AvgPool(4, POOLS["plain"][:dims]), Make(5)
    select = Select((3, 1, 1, 0), 4, dims)
    chains = [select >> pool, pool >> select, pool >> pool, Pad(4, ((1, 1),) * dims) >> pool]
    for chain in chains:
        assert_kernel(chain, *SIZES[dims])
        assert_kernel(chain_of(chain, make.affine(4, dims)), *SIZES[dims])
        assert_kernel(make.affine(4, dims, shift=False) >> chain, *SIZES[dims])
