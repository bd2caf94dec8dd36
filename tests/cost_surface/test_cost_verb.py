"""``convfold cost`` as a person meets it: tables, trees, files, and sentences for what is wrong."""

import json
from pathlib import Path

import pytest
import torch

from convfold.cli import run
from convfold.cost import cost
from convfold.cost.device.place import cache_folder
from cost_surface.nets import net, plain
from device.machines import machine

NETS = "cost_surface.nets"
INPUT = ("--input", "1x3x17x15")
X = torch.empty(1, 3, 17, 15)


def told(capfd: pytest.CaptureFixture[str], *line: str, code: int = 0) -> str:
    assert run(["cost", *line]) == code
    captured = capfd.readouterr()
    return captured.err if code else captured.out


def test_a_table_with_exact_totals(capfd: pytest.CaptureFixture[str]) -> None:
    text = told(capfd, f"{NETS}:net", *INPUT)
    report = cost(net(), X)
    assert f"{report.macs:,} MACs, {report.flops:,} FLOPs, {report.params:,} parameters" in text
    assert [line.split()[0] for line in text.splitlines()[2:5]] == ["0", "1", "2.conv"]


def test_the_default_table_fits_a_hundred_columns(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convfold.cli.cost.terminal_width", lambda: 100)
    text = told(capfd, "timm:repvgg_a0")
    table = text.split("\n\n")[0].splitlines()
    assert max(map(len, table)) <= 100
    # Names are cut at the front: the end tells them apart.
    assert any(line.startswith("stages.0.0.conv_kxk.bn ") for line in table)
    assert "1.51 G" in table[-1]


def test_sorted_filtered_and_with_other_columns(capfd: pytest.CaptureFixture[str]) -> None:
    text = told(capfd, f"{NETS}:net", *INPUT, "--sort", "MACs", "--filter", "*conv", "--columns", "macs,output,field")
    lines = text.splitlines()
    assert lines[0].split() == ["module", "MACs", "output", "field"]
    assert [line.split()[0] for line in lines[2:4]] == ["2.conv", "3.conv"]
    assert lines[5].startswith("matched")
    assert lines[6].startswith("total")
    first = told(capfd, f"{NETS}:net", *INPUT, "--sort", "params").splitlines()[2]
    assert first.split()[0] in ("2.conv", "3.conv")
    by_name = told(capfd, f"{NETS}:net", *INPUT, "--sort", "module").splitlines()
    assert by_name[2].split()[0] == "0"
    wide = told(capfd, f"{NETS}:net", *INPUT, "--wide").splitlines()[0]
    assert "freedom" in wide
    assert "oper" in wide


def test_a_tree_adds_up(capfd: pytest.CaptureFixture[str]) -> None:
    text = told(capfd, f"{NETS}:net", *INPUT, "--tree", "--columns", "macs,params")
    report = cost(net(), X)
    at = {line.split()[-4 if line[0] in "├└│ " else 0]: line for line in text.splitlines()[2:4]}
    assert at
    block = next(line for line in text.splitlines() if line.startswith("├─ 2 "))
    below = report.under("2")
    assert f"{below.macs / 1000:.1f} k" in block
    assert str(below.params) in block
    assert "│  ├─ conv" in text


def test_json_and_a_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("jinja2")
    page, file = tmp_path / "cost.html", tmp_path / "cost.json"
    text = told(
        capfd, f"{NETS}:net", *INPUT, "--json", str(file), "--report", str(page), "--what-if", "separable",
        "--vs", f"{NETS}:plain",
    )  # fmt: skip
    assert f"written: {file}" in text
    found = json.loads(file.read_text())
    report = cost(net(), X)
    assert found["macs"] == report.macs
    assert found["inputs"] == "1x3x17x15"
    assert found["versus"]["totals"]["macs"]["b"] == cost(plain(), X).macs
    assert found["what_if"][0]["changed"][1]["ratio"]["letters"] == "1/N + 1/K"
    assert "<title>cost_surface.nets:net: what it costs</title>" in page.read_text()


def test_two_models_and_a_what_if(capfd: pytest.CaptureFixture[str]) -> None:
    text = told(capfd, f"{NETS}:net", *INPUT, "--vs", f"{NETS}:plain", "--filter", "3*")
    assert "0 changed, 4 gone, 0 new" in text
    assert "3.side" in text
    assert "2.side" not in text
    text = told(capfd, f"{NETS}:net", *INPUT, "--what-if", "separable@2.*", "--what-if", "rank:2")
    assert "What if: separable@2.*" in text
    assert "1/N + 1/K = 1/8 + 1/9" in text
    assert "What if: rank:2" in text


def test_a_training_step(capfd: pytest.CaptureFixture[str]) -> None:
    text = told(capfd, f"{NETS}:net", *INPUT, "--training")
    step = cost(net(), X, training=True).training
    assert step is not None
    assert f"one training step: {step.macs:,} MACs, {step.flops:,} FLOPs" in text
    assert "optimisers keep: sgd 0 B" in text


def test_an_operator_without_a_formula_is_loud(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    page = tmp_path / "odd.html"
    text = told(capfd, f"{NETS}:odd", *INPUT, "--report", str(page))
    assert "!! NOT COUNTED: 1 call of operators without a formula; the totals are too low." in text
    assert "_linalg_svd" in text
    assert '<div class="loud" role="alert">' in page.read_text()
    said = told(capfd, f"{NETS}:odd", *INPUT, "--strict", code=2)
    assert "operators have no formula, so that the totals are too low" in said
    assert told(capfd, f"{NETS}:net", *INPUT, "--strict")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--sort", "flop"], "--sort: no column is called so: got 'flop', expected one of module, type"),
        (["--sort", "flop"], "Did you mean flops"),
        (["--columns", "macs,colour"], "--columns: no column is called so: got 'colour'"),
        (["--filter", "layer9*"], "--filter: no row's module is called so: got 'layer9*', expected a glob over paths"),
        (["--what-if", "seperable"], "--what-if: unknown form: got 'seperable'. Did you mean separable"),
        (["--what-if", "rank:2@nope"], "rank:2: no convolution or Linear is called so: got 'nope'"),
        (["--vs", f"{NETS}:grey"], "does not run on this example input"),
        (["--vs", "conv"], "this names no model: got 'conv'"),
        (["--json", "x.json", "--report", "x.json"], "x.json is written already"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    options: list[str],
    sentence: str,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("jinja2")
    monkeypatch.chdir(tmp_path)
    assert sentence in told(capfd, f"{NETS}:net", *INPUT, *options, code=2)
    assert not list(tmp_path.iterdir())


def test_models_that_know_other_inputs(capfd: pytest.CaptureFixture[str]) -> None:
    said = told(capfd, "torchvision:squeezenet1_1", "--vs", "torchvision:inception_v3", code=2)
    assert (
        "--vs: torchvision:inception_v3 takes other inputs than torchvision:squeezenet1_1: got 1x3x299x299, "
        "expected 1x3x224x224. --input gives one for both." in said
    )


def test_a_model_without_inputs_is_counted_on_those_of_the_other(capfd: pytest.CaptureFixture[str]) -> None:
    text = told(capfd, f"{NETS}:net", "--vs", "torchvision:squeezenet1_1")
    assert f"{cost(net(), torch.empty(1, 3, 224, 224)).macs:,}" in text
    said = told(capfd, f"{NETS}:net", "--vs", f"{NETS}:plain", code=2)
    assert "--input: costs depend on the input" in said


def test_time_is_predicted_where_this_machine_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    line = ["cost", f"{NETS}:plain", "--input", "1x3x17x15", "--latency"]
    assert run(line) == 2
    assert "nothing is known of this machine's speed" in capfd.readouterr().err
    assert run(["cost", "net.onnx", "--latency"]) == 2
    assert "not that of a file" in capfd.readouterr().err
    law = machine()
    law.save(cache_folder() / law.place.file_name)
    assert run([*line, "--json", str(tmp_path / "cost.json")]) == 0
    rows = json.loads((tmp_path / "cost.json").read_text())["rows"]
    assert all(row["seconds"] > 0 for row in rows)
    table = capfd.readouterr().out.splitlines()
    assert table[0].split()[-1] == "time"
