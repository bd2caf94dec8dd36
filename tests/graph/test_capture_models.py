"""Whole models of the zoo as programs: every output in float64, at other sizes too."""

from __future__ import annotations

import pytest
import torch

from convfold.algebra import twin
from convfold.graph.capture import capture, evaluate
from convfold.graph.inputs import example_inputs
from convfold.graph.program import Opaque
from convfold.zoo import load_model
from support.make import randomise


@pytest.mark.parametrize(
    ("name", "operators", "opaque"),
    [
        ("timm:repvgg_a0", 168, set()),
        ("torchvision:shufflenet_v2_x0_5", 168, {"max_pool2d"}),
        pytest.param("timm:mixnet_s", 304, {"mul"}, marks=pytest.mark.slow),
        pytest.param("timm:fastvit_t8", 258, {"mul"}, marks=pytest.mark.slow),
    ],
)
def test_a_model_as_a_program(name: str, operators: int, opaque: set[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    model = randomise(load_model(name), generator).eval()
    captured = capture(model, example_inputs(model, torch.randn(1, 3, 64, 64, generator=generator)))
    assert captured.limits == ()
    program = captured.program
    live = [number for number in program.live() if number in program.nodes]
    assert sum(program.operators[number] for number in live) == operators
    assert {program.values[n].place.operator for n in live if isinstance(program.nodes[n], Opaque)} == opaque
    exact = twin(model).double()
    for shape in ((2, 3, 64, 64), (1, 3, 96, 128)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            want = exact(x)
        got = evaluate(captured, example_inputs(model, x))[program.outputs[0]]
        assert (got - want).abs().max() <= 1e-12 * want.abs().max()
