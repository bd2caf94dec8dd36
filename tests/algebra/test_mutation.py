"""Every law is needed as it stands: each of these small faults in a law's source makes a compact check fail.

A fault is planted by compiling the function's source with one piece of text replaced and lending its code to
the function itself, so that every module that imported the function runs the faulty one.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from convfold.algebra import (
    AvgPool,
    Concat,
    Flat,
    Identity,
    Pad,
    Select,
    apply,
    bias_map,
    frozen,
    kernel,
    ones_channel,
    regroup_rows,
)
from convfold.errors import NotFoldable
from convfold.geometry import Axis, embed, out_size, point
from support.faults_chain import CHAIN_FAULTS
from support.faults_other import OTHER_FAULTS
from support.make import Make
from support.oracle import DOUBLE, assert_kernel, assert_same

FAULTS = {**CHAIN_FAULTS, **OTHER_FAULTS}
# What a wrong law leads to; a fault that only breaks the program (a name, a type) proves nothing.
NOTICED = (AssertionError, pytest.fail.Exception, RuntimeError, ValueError, ArithmeticError)


def check_laws() -> None:
    """A few expressions that together need every line of every law."""
    make = Make(11)
    odd = (Axis(3, 1, 1, 1, 2), Axis(2, 1, 2, 0, 1))
    bare = (Axis(3, 1, 2), Axis(2, 2, 1))
    grouped = make.conv(4, 6, odd, 2)
    assert_kernel(grouped >> make.norm(6, 2), (5, 6))
    assert_kernel(make.norm(4, 2) >> make.conv(4, 6, bare, 2), (7, 6))
    assert_kernel(make.norm(4, 2, affine=False) >> make.affine(4, 2) >> make.affine(4, 2), (2, 3))
    first = make.conv(4, 12, (Axis(2, 2, 1, 1, 0), Axis(3, 1, 2, 1, 2)), 4)
    assert_kernel(first >> make.conv(12, 6, bare, 6), (9, 11))
    assert_kernel(first >> make.conv(12, 6, bare, 2), (9, 11))
    assert_kernel(make.conv(4, 6, bare, 2) >> make.conv(6, 6, point(2), 6), (7, 6))
    assert_kernel(make.conv(4, 6, (Axis(1, 2, 1, -1), Axis()), 2, bias=False) >> make.conv(6, 6, odd, 6), (6, 5))
    outer = (Axis(5, 2, 2, 4, 3), Axis(4, 1, 1, 1, 2))
    small = tuple(embed(axis, k) for axis, k in zip(outer, (2, 3), strict=True))
    assert_kernel(make.conv(4, 4, outer, 2) + make.conv(4, 4, small, 4) + make.conv(4, 4, small, 1, False), (9, 5))
    assert_kernel(make.conv(4, 4, make.same(2), 4) + Identity(4, 2) + AvgPool(4, make.same(2)), (4, 5))
    spread, dot = (Axis(2, 1, 2, 1, 1),), (Axis(),)
    assert_kernel(make.conv(2, 2, dot) + make.conv(2, 2, spread) + make.conv(2, 2, (Axis(3, 1, 3, 3, 3),)), (7,))
    assert_kernel(make.conv(2, 2, dot) + make.conv(2, 2, spread), (7,))
    assert_kernel(make.conv(2, 2, (Axis(3, 1, 2, 2, 2),)) + make.conv(2, 2, (Axis(2, 1, 1, 1, 0),)), (6,))
    assert (embed(Axis(5, lo=2, hi=2), 2), embed(Axis(3, lo=1, hi=1), 1)) == (Axis(2, hi=1), Axis())
    assert_kernel(AvgPool(3, odd, divisor=5), (5, 6))
    assert_kernel(Concat((make.conv(4, 4, make.same(2), 2, False), make.conv(4, 3, make.same(2, 1)))), (4, 5))
    halves = [Select.block(s, s + 4, 8, 2) >> make.conv(4, 6, make.same(2, k), 2) for s, k in ((0, 3), (4, 1))]
    joined = assert_kernel(Concat(tuple(halves)), (4, 5))
    assert joined.groups == 4
    branches = (make.conv(4, 4, make.same(1), 2), make.conv(4, 8, make.same(1, 1), 2, False))
    conv, order = regroup_rows(branches)
    assert_same(Concat(branches), conv >> order, (5,))
    for index in ((3, 0, 0, 5), (1, 0, 2, 4)):
        assert_kernel(make.conv(4, 6, (), 2) >> Select(index, 6, 0), ())
        assert_kernel(Select(index, 7, 0) >> make.conv(4, 6, (), 2), ())
    assert_kernel(Select((0, 1, 2, 3), 5, 0) >> make.conv(4, 6, (), 2), ())
    assert_kernel(Select((3, 1, 2, 0), 4, 1) >> Select((1, 1, 0), 4, 1), (3,))
    up = make.transposed(4, 8, (Axis(3, 2, 1, 1, 0), Axis(2, 1, 2, 0, -1)), 4)
    assert_kernel(up >> make.norm(8, 2), (3, 4))
    assert_kernel(up >> make.conv(8, 4, point(2), 2), (3, 4))
    assert_kernel(make.affine(6, 2, shift=False) >> make.conv(6, 4, point(2), 2, False) >> up, (3, 4))
    assert_kernel(make.affine(4, 2, shift=False) >> up, (3, 4))
    assert_kernel(up + make.transposed(4, 8, up.window, 2), (3, 4))
    one, two = make.conv(4, 6, point(2), 2), make.conv(6, 4, odd, 2)
    assert_same(one >> two, ones_channel(one, two), (4, 5), (5, 3))
    assert_same(one >> two, bias_map(one, two, (4, 5)), (4, 5))
    for mode in ("zeros", "circular"):
        assert_kernel(Flat(make.conv(4, 6, make.same(2), 2, mode=mode), (3, 4), (3, 4)), ())
    assert_kernel(make.conv(5, 24, ()) >> Flat(make.norm(2, 2), (3, 4), (3, 4)), ())
    pads = ((1, 2), (0, 1))
    assert_kernel(one >> Pad(6, pads, value=one.bias), (3, 4))
    biased = make.conv(6, 4, point(2), 2)
    normed = one >> make.norm(6, 2)
    assert_same(normed, frozen(normed, torch.float64), (3, 4))
    cropped = make.conv(4, 6, (Axis(1, lo=-1), Axis()), bias=False)
    for refused in (
        cropped >> two,
        one >> two,
        make.norm(6, 2) >> two,
        make.conv(4, 6, odd, bias=False) >> two,
        biased >> up,
    ):
        with pytest.raises(NotFoldable):
            kernel(refused)
    with pytest.raises(NotFoldable):
        kernel(make.conv(4, 4, make.same(1), 1, False, "circular") + make.conv(4, 4, make.same(1), 1, False, "reflect"))
    plain = kernel(2 * make.conv(3, 3, make.same(1, 1)) + Identity(3, 1), like=DOUBLE)
    assert apply(plain, torch.zeros(1, 3, 4, dtype=torch.float64)).shape == (1, 3, *out_size(plain.window, (4,)))


@contextmanager
def planted(function: Callable[..., Any], old: str, new: str):
    """`function` with `old` replaced by `new` in its source, everywhere it is used."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) >= 1, f"{function.__name__} does not hold {old!r} any more"
    flags = __future__.annotations.compiler_flag
    scope: dict[str, Any] = {}
    code = compile(source.replace(old, new), function.__code__.co_filename, "exec", flags)
    exec(code, dict(function.__globals__), scope)
    original = function.__code__
    function.__code__ = scope[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = original


def test_the_check_passes_on_the_laws_as_they_are():
    check_laws()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault):
    function, old, new = FAULTS[fault]
    with planted(function, old, new), pytest.raises(NOTICED):
        check_laws()


def test_a_fault_is_gone_when_its_test_is_over():
    function, old, new = FAULTS["drop the mean"]
    with planted(function, old, new):
        pass
    check_laws()
