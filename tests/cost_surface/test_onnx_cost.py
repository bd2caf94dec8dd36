"""The cost of ONNX files beside that of the models they were exported from, and of files written by hand."""

import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx_ir")

from onnx import TensorProto, helper  # noqa: E402

from convfold.cli import run  # noqa: E402
from convfold.cost import cost  # noqa: E402
from convfold.cost.onnx.count import cost_file, stated_shapes  # noqa: E402
from convfold.cost.what_if.scenario import scenario, split_spec  # noqa: E402
from cost_surface.nets import net  # noqa: E402
from support.onnx_files import FLOAT, node, normal  # noqa: E402

X = torch.empty(2, 3, 17, 15)


def saved(path: Path, nodes, inputs, outputs, held, **rest) -> Path:
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in held.items()]
    infos = [[helper.make_tensor_value_info(n, FLOAT, s) for n, s in found.items()] for found in (inputs, outputs)]
    graph = helper.make_graph(nodes, "g", *infos, tensors)
    imports = [helper.make_opsetid("", 17), *rest.get("imports", [])]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=9), path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net().eval(), (X.new_zeros(X.shape),), path, dynamo=False)
    return path


def test_a_file_costs_what_its_model_does(exported: Path) -> None:
    found, report = cost_file(exported), cost(net(), X)
    rows, expected = ({row.path: row for row in one.rows} for one in (found.report, report))
    assert found.inputs == {next(iter(found.inputs)): tuple(X.shape)}
    assert found.report.macs == report.macs
    assert found.report.convolutions == report.convolutions
    assert not found.report.uncounted
    for path in ("2.conv", "2.side", "3.conv", "6"):
        for name in ("macs", "flops", "params", "weight_bytes", "activation_bytes", "traffic_bytes", "receptive_field"):
            got, wanted = getattr(rows[path], name), getattr(expected[path], name)
            if name == "receptive_field" and path == "6":
                continue  # the head depends on the whole map: of a torch model no axis is told
            assert got == wanted, (path, name)
    # The exporter folded the norm into the convolution before it: its bias is all that is left of it.
    assert rows["0"].params == expected["0"].params + 8


def test_an_exported_chain_has_the_peak_and_field_of_its_model(tmp_path: Path) -> None:
    chain = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2), nn.Sigmoid(), nn.MaxPool2d(3, 2), nn.Conv2d(8, 4, 3, dilation=2)
    )
    x = torch.zeros(1, 3, 40, 41)
    path = tmp_path / "chain.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(chain.eval(), (x,), path, dynamo=False)
    found, report = cost_file(path).report, cost(chain, x)
    assert found.receptive_field == report.receptive_field == 5 + 2 * (2 + 2 * 4)
    # Two neighbours live at once; torch's max pooling makes indices too, which the file's does not.
    shapes = [8 * 18 * 19, 8 * 18 * 19, 8 * 8 * 9, 4 * 4 * 5]
    assert found.peak_bytes == 4 * max(a + b for a, b in pairwise(shapes))
    assert [row.flops for row in found.rows] == [row.flops for row in report.rows]


def test_views_hold_what_they_are_of(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "views.onnx",
        [node("Relu", "x", "a"), node("Flatten", "a", "b"), node("Relu", "b", "c"), node("Relu", "c", "d")],
        {"x": [1, 4, 5]}, {"d": [1, 20]}, {},
    )  # fmt: skip
    report = cost_file(path).report
    assert report.peak_bytes == 2 * 80
    assert report.activation_bytes == 3 * 80
    assert report.traffic_bytes == 6 * 80
    assert report.operators == 3


def test_what_if_on_a_file(exported: Path) -> None:
    found, spec = cost_file(exported), split_spec("separable@*.conv")
    told = scenario(found.report, found.layers, *spec)
    assert {one.path: one.numbers for one in told.changed} == dict.fromkeys(("2.conv", "3.conv"), "1/8 + 1/9")
    assert told.then.macs == told.now.macs - 2 * (2 * 8 * 7) * (8 * 8 * 9 - 8 * 9 - 8 * 8)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding_and_open_sizes(mode: str, tmp_path: Path) -> None:
    path = saved(
        tmp_path / "open.onnx",
        [node("Conv", "x w", "y", auto_pad=mode, strides=[2, 2])],
        {"x": ["n", 3, "h", "w"]}, {"y": ["n", 4, "p", "q"]}, {"w": normal(4, 3, 4, 4)},
    )  # fmt: skip
    assert stated_shapes(path) == []
    found = cost_file(path, [(2, 3, 11, 12)])
    out = (6, 6) if mode != "VALID" else (4, 5)
    assert found.report.macs == 2 * out[0] * out[1] * 4 * 3 * 16
    assert found.report.receptive_field == 4
    (place,) = found.layers
    assert place.layer is not None
    assert place.layer.out_size == out


def test_operators_without_a_formula_are_listed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = saved(
        tmp_path / "odd.onnx",
        [node("Det", "x", "y"), node("Relu", "x", "z")],
        {"x": [2, 3, 3]}, {"y": [2], "z": [2, 3, 3]}, {},
    )  # fmt: skip
    report = cost_file(path).report
    assert report.uncounted == {"Det": 1}
    assert run(["cost", str(path), "--strict"]) == 2
    captured = capfd.readouterr()
    assert "NOT COUNTED" in captured.out
    assert "got Det x1" in captured.err


def test_a_subgraph_is_no_operator_that_is_counted(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{op}_y", FLOAT, [2, 3])
        return helper.make_graph([helper.make_node(op, ["x"], [f"{op}_y"])], op, [], [out])

    held = [helper.make_tensor("t", TensorProto.BOOL, [], [True])]
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg"))
    infos = [
        helper.make_tensor_value_info(n, kind, s) for n, kind, s in (("x", FLOAT, [2, 3]), ("c", TensorProto.BOOL, []))
    ]
    graph = helper.make_graph([choice], "g", infos, [helper.make_tensor_value_info("y", FLOAT, [2, 3])], held)
    path = tmp_path / "if.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    assert cost_file(path).report.uncounted == {"If": 1}


def test_a_model_against_its_file(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "cost_surface.nets:net", "--vs", str(exported)]) == 0
    text = capfd.readouterr().out
    assert f"{cost(net(), X).macs:,}" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--weights", "w.safetensors"], "--weights: an ONNX file holds its weights"),
        (["--training"], "--training: an ONNX file has no training step"),
        (["--input", "1x4x17x15"], "the file does not take this shape"),
    ],
)
def test_what_a_file_does_not_take(
    options: list[str], sentence: str, exported: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["cost", str(exported), *options]) == 2
    assert sentence in capfd.readouterr().err
