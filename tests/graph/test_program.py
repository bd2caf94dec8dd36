"""The neutral program: what is live, and how many numbers its definitions hold."""

from __future__ import annotations

from convfold.geometry import Axis, point
from convfold.graph.maps import IDENTITY, Given, Map
from convfold.graph.program import Concat, Linear, Program, ShiftGiven, Term, Value, parameters_of

CONV = Map("conv", 6, 4, 1, (Axis(3, 1, 1, 0, 0), Axis(5, 1, 1, 0, 0)), 2, Given("w"))
SCALE = Map("diagonal", 6, 6, 1, recipe=Given("s"))


def program() -> Program:
    found = Program()
    x = found.add(Value((1, 4, 8, 8)))
    y = found.add(Value((1, 4, 8, 8)), Linear((Term(IDENTITY, x),)))
    found.add(Value((1, 4, 8, 8)), Linear((Term(IDENTITY, y),)))
    found.add(Value((1, 4, 8, 8)), Linear((Term(IDENTITY, x),)))
    found.outputs = (y,)
    return found


def test_live_values_come_sources_first_and_others_with_what_they_need() -> None:
    assert list(program().live()) == [0, 1]
    assert list(program().live([3])) == [0, 1, 3]
    assert list(program().live([2, 1, 3, 3])) == [0, 1, 2, 3]
    assert program().outputs == (1,)


def test_parameters_are_the_elements_of_the_tensors() -> None:
    assert CONV.parameters == 6 * 2 * 3 * 5
    assert SCALE.parameters == 6
    assert Map("conv", 6, 4, 1, point(2), recipe=Given("w")).parameters == 24
    assert IDENTITY.parameters == Map("scalar", factor=2.0).parameters == 0
    bias = ShiftGiven("b")
    assert parameters_of(Linear((Term(CONV, 0), Term(SCALE, 1)), bias, 1)) == 180 + 6 + 6
    assert parameters_of(Linear((Term(CONV, 0),))) == 180
    assert parameters_of(Concat((0, 1), 1)) == 0
    assert parameters_of(None) == 0
