"""Random expressions over the whole grammar: the kernel reading equals the oracle, or refuses with a reason."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convfold.algebra import Conv, ConvTranspose, kernel
from convfold.errors import NotFoldable
from convfold.geometry import out_size
from support.oracle import DOUBLE, assert_same
from support.strategies import fits, sizes_for, transposed_trees, trees

LEAST = {0: 0, 1: 9, 2: 6, 3: 5}
REASONS = (
    "its bias is not constant at the border",
    "pads with zeros where the first one's response is not zero",
    "padding between two convolutions does not commute",
    "the branches pad in different modes",
)


def check(op, size):
    fits(op, size)
    try:
        reduced = kernel(op, like=DOUBLE)
    except NotFoldable as refused:
        reason = refused.refusal.reason
        if not any(known in reason for known in REASONS):
            raise
        return "refused"
    if isinstance(reduced, Conv):
        fits(reduced, size)
        assert len(out_size(reduced.window, size)) == len(size)
    assert_same(op, reduced, size)
    return "folded"


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dims", [0, 1, 2, 3])
def test_a_tree_is_its_kernel_or_is_refused(dims, mixed):
    outcomes = Counter()

    @settings(max_examples=settings().max_examples // (1 if dims == 1 else 2))
    @given(trees(dims, mixed=mixed), sizes_for(dims, LEAST[dims]))
    def run(op, size):
        outcomes[check(op, size)] += 1

    run()
    assert outcomes["folded"] >= 10, outcomes
    if dims == 0:
        assert not outcomes["refused"]


@given(trees(1, depth=3), sizes_for(1, 12))
def test_a_deep_tree_in_one_dimension(op, size):
    check(op, size)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_transposed_tree_is_its_kernel(dims):
    @settings(max_examples=settings().max_examples // 2)
    @given(transposed_trees(dims), st.data())
    def run(op, data):
        size = data.draw(sizes_for(dims, 2))
        fits(op, size)
        reduced = kernel(op, like=DOUBLE)
        assert isinstance(reduced, ConvTranspose)
        assert_same(op, reduced, size)

    run()
