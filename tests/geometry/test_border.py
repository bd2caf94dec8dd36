"""Which chains are legal at the border: decided by the windows, checked against brute force.

The truth comes from the oracle: a kernel and a bias are read off an output far from every border, and the chain
is one convolution iff that kernel, in some padding mode, has the chain's matrix for every size tried.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convfold.algebra import Conv, compose, dense
from convfold.errors import NotFoldable
from convfold.geometry import Axis, chain, chain_mode, out_size, reads_past_border
from support.make import Make
from support.strategies import axes

FAR, SIZES = 48, range(26, 30)  # all residues of the composed stride, at most 4


def interior_kernel(first, second):
    """The chain's own kernel, read off the matrix at an output that reads no padding anywhere."""
    (window,) = (chain(first.window, second.window),)
    axis = window[0]
    matrix, shift = dense(first >> second, (FAR,))
    count = out_size(window, (FAR,))[0]
    row = next(i for i in range(count) if axis.stride * i - axis.lo >= 8)
    taps = [axis.stride * row - axis.lo + axis.dilation * j for j in range(axis.kernel)]
    assert taps[-1] < FAR - 1
    rows = matrix.reshape(second.out_channels, count, first.in_channels, FAR)[:, row]
    return Conv(rows[:, :, taps], shift.reshape(second.out_channels, count)[:, row], window)


def is_one_convolution(first, second, modes):
    candidate = interior_kernel(first, second)
    for mode in modes:
        one = replace(candidate, padding_mode=mode)
        if all(equal(first >> second, one, (n,)) for n in SIZES):
            return True
    return False


def equal(op, other, size):
    (a, b), (c, d) = dense(op, size), dense(other, size)
    return a.shape == c.shape and torch.allclose(a, c, atol=1e-9) and torch.allclose(b, d, atol=1e-9)


def folds(first, second):
    try:
        compose(first, second)
    except NotFoldable:
        return False
    return True


def draw_pair(data, mode1, mode2):
    make = Make(data.draw(st.integers(0, 999)))
    u, t = data.draw(axes(max_pad=3)), data.draw(axes(max_pad=2))
    # The kernel must be readable far from the border.
    assume(chain((u,), (t,))[0].span <= 12)
    bias1, bias2 = data.draw(st.booleans()), data.draw(st.booleans())
    return make.conv(1, 2, (u,), 1, bias1, mode1), make.conv(2, 1, (t,), 1, bias2, mode2)


@settings(max_examples=settings().max_examples * 3)
@given(st.data())
def test_zero_padding_is_refused_exactly_where_the_chain_is_no_convolution(data):
    first, second = draw_pair(data, "zeros", "zeros")
    assert folds(first, second) == is_one_convolution(first, second, ["zeros"])


@settings(max_examples=settings().max_examples * 2)
@given(st.data())
def test_circular_padding_is_refused_exactly_where_the_chain_is_no_convolution(data):
    first, second = draw_pair(data, "circular", "circular")
    assert folds(first, second) == is_one_convolution(first, second, ["circular"])


@given(st.data(), st.permutations(["zeros", "circular", "replicate"]))
def test_two_modes_are_refused_at_least_where_the_chain_is_no_convolution(data, modes):
    first, second = draw_pair(data, *modes[:2])
    assert not folds(first, second) or is_one_convolution(first, second, modes)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_reflect_and_replicate_are_refused_at_least_where_the_chain_is_no_convolution(mode):
    @given(st.data())
    def run(data):
        first, second = draw_pair(data, mode, mode)
        if folds(first, second):
            assert is_one_convolution(first, second, [mode])
        elif first.window[0].stride == 1 and first.window[0].lo == first.window[0].hi == 0:
            assert not is_one_convolution(first, second, [mode, "zeros"])

    run()


@pytest.mark.parametrize(
    ("u", "t", "past"),
    [
        (Axis(1), Axis(3, lo=1, hi=1), False),
        (Axis(3, lo=1, hi=1), Axis(3, lo=1, hi=1), True),
        (Axis(3, lo=2, hi=2), Axis(3, lo=1, hi=1), False),
        (Axis(3, lo=2, hi=1), Axis(3, lo=1, hi=1), True),
        (Axis(1, lo=-1), Axis(3, lo=1), True),
        (Axis(1, 2, lo=-1), Axis(3, lo=1), False),
        (Axis(1, hi=-1), Axis(3, hi=1), True),
        (Axis(2, 1), Axis(3, lo=0, hi=0), False),
        (Axis(3, lo=1, hi=1), Axis(1, 2, lo=2), False),
    ],
)
def test_reading_past_the_border(u, t, past):
    assert reads_past_border((u,), (t,)) is past
    # Axes are judged one by one: a harmless axis beside does not excuse a harmful one.
    assert reads_past_border((Axis(1), u), (Axis(3, lo=1, hi=1), t)) is past


def test_modes_that_do_not_mix():
    padded, plain = (Axis(3, lo=1, hi=1),), (Axis(3),)
    assert chain_mode(padded, "reflect", plain, "zeros") == "reflect"
    assert chain_mode(plain, "reflect", plain, "circular") == "zeros"
    assert chain_mode((Axis(),), "zeros", padded, "reflect") == "reflect"
    assert chain_mode(padded, "circular", padded, "circular") == "circular"
    for modes in (("reflect", "zeros"), ("zeros", "reflect"), ("reflect", "reflect"), ("circular", "zeros")):
        with pytest.raises(NotFoldable):
            chain_mode(padded, modes[0], padded, modes[1])
