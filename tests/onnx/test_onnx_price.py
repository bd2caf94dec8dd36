"""What definitions cost in nodes, where they are not written (see test_onnx_forms)."""

from __future__ import annotations

from convfold.geometry import Axis
from convfold.graph.maps import IDENTITY, Given, Map
from convfold.graph.program import Concat, Linear, Program, Spatial, Term, Value
from convfold.plan.onnx.price import PROHIBITIVE, price


def test_a_window_on_another_axis_than_the_channels_has_no_form() -> None:
    window = (Axis(3, 1, 1, 1, 1),)
    m = Map("conv", 4, 4, 2, window, 1, Given("k"))
    program = Program()
    x = program.add(Value((2, 3, 4, 5)))
    y = program.add(Value((2, 3, 4, 5)), Linear((Term(m, x),)))
    assert price(program, y, program.nodes[y], False) == PROHIBITIVE
    assert price(program, y, program.nodes[y], True).operators == 1
    shallow = Map("pool", 4, 4, 2, window, 4, Given(("average", 3)))
    assert price(program, y, Linear((Term(shallow, x),)), False) == PROHIBITIVE
    far = Map("transposed", 3, 3, 1, (Axis(3, 2, 1, 0, -2), Axis()), 1, Given("k"))
    assert price(program, y, Linear((Term(far, x),)), False) == PROHIBITIVE


def test_what_the_frontend_knows_of_an_original_counts() -> None:
    program = Program()
    x = program.add(Value((1, 3, 4, 4)))
    y = program.add(Value((1, 3, 4, 4)), Linear((Term(IDENTITY, x), Term(IDENTITY, x), Term(IDENTITY, x))))
    assert price(program, y, program.nodes[y], True).operators == 2
    program.operators[y] = 1
    assert price(program, y, program.nodes[y], True)[2:4] == (1, 48)
    assert price(program, y, program.nodes[y], False).operators == 2


def test_other_definitions_are_priced_as_elsewhere() -> None:
    program = Program()
    x = program.add(Value((1, 3, 4, 4)))
    y = program.add(Value((1, 3, 16)), Spatial(x, ((0, 0), (1, 1)), True, True, 1))
    z = program.add(Value((1, 6, 16)), Concat((y, y), 1))
    assert price(program, y, program.nodes[y], True).operators == 0
    assert price(program, z, program.nodes[z], True)[:4] == (0, 0, 1, 96)


def test_another_value_costs_a_node_as_an_output_only() -> None:
    program = Program()
    x = program.add(Value((1, 3, 4, 4)))
    y = program.add(Value((1, 3, 4, 4)), Linear((Term(IDENTITY, x),)))
    assert price(program, y, program.nodes[y], False).operators == 0
    program.outputs = (y,)
    assert price(program, y, program.nodes[y], False).operators == 1


def test_macs_and_convolutions_are_those_of_the_maps() -> None:
    program = Program()
    x = program.add(Value((2, 6, 7, 7)))
    conv = Map("conv", 4, 6, 1, (Axis(3, 1, 1, -1, 1), Axis(3)), 2, Given("k"))
    y = program.add(Value((2, 4, 5, 5)), Linear((Term(conv, x),)))
    size = 2 * 4 * 5 * 5
    # The Slice before is a second node, and what it writes counts.
    assert price(program, y, program.nodes[y], False)[:4] == (size * 3 * 9, 1, 2, 2 * size + 2 * 6 * 7 * 7)
