"""Where nodes come from, as exporters name them."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx_ir")

import onnx_ir as ir

from convfold.graph.onnx.places import place_of


@pytest.mark.parametrize(
    ("operator", "name", "module"),
    [
        ("Conv", "/stages/stages.0/stages.0.1/conv_1x1/conv/Conv", "stages.0.1.conv_1x1.conv"),
        ("Add", "/stages/stages.0/stages.0.1/Add_12", "stages.0.1"),
        ("Conv", "/layer/body/body.0/Conv", "layer.body.0"),
        ("Conv", "/body/body2/Conv", "body.body2"),
        ("Relu", "/Relu", ""),
        ("Conv", "/stem/Convolution", "/stem/Convolution"),
        ("Conv", "model/first/Conv", "model/first/Conv"),
        ("Conv", "Conv_3", "Conv_3"),
        ("Conv", "", "result"),
    ],
)
def test_names_of_the_torchscript_exporter_are_modules(operator: str, name: str, module: str) -> None:
    node = ir.node(operator, [], name=name)
    node.outputs[0].name = "result"
    assert place_of(node).module == module
