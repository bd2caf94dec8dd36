"""``convfold decompose`` and ``convfold rank``: what they print, write and refuse."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import convfold
from convfold.cli import run
from convfold.studies.rank import effective_ranks, rank
from convfold.transform.decompose import decompose
from support.verbs import printed

HERE = "tests.decompose.test_cli"
INPUT = ("--input", "1x3x12x12")


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ConvTranspose2d(12, 4, 2))


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(288, 10))


def test_decompose_prints_and_writes_json_and_a_page(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told, page = tmp_path / "told.json", tmp_path / "page.html"
    command = ["decompose", f"{HERE}:small", *INPUT, "--method", "svd", "--target-macs", "0.6"]
    assert run([*command, "--json", str(told), "--report", str(page)]) == 0
    text = printed(capfd)
    assert "it is a transposed convolution" in text
    found = json.loads(told.read_text())
    assert found["macs_after"] <= 0.6 * found["macs_before"]
    assert found["command"] == {"method": "svd", "target_macs": 0.6}
    html = page.read_text()
    assert "Left alone" in html
    assert html.count("<svg") == 2
    for row in found["rows"]:
        assert row["error"] <= row["bound"]


def test_what_is_written_computes_what_was_decomposed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, x = tmp_path / "small.safetensors", torch.randn(1, 3, 12, 12)
    command = ["decompose", f"{HERE}:small", *INPUT, "--method", "tucker", "--rank", "0=6x2", "--rank", "2=5x4"]
    assert run([*command, "--out", str(out)]) == 0
    expected = decompose(small(), "tucker", rank={"0": (6, 2), "2": (5, 4)}, example_inputs=x)
    with safe_open(out, "pt") as file:
        known = json.loads(file.metadata()["convfold"])
    assert known["rank"] == {"0": [6, 2], "2": [5, 4]}
    again = decompose(small(), known["method"], known["rank"], example_inputs=x)
    again.load_state_dict(load_file(out))
    assert torch.equal(again(x), expected(x))
    program = tmp_path / "small.pt2"
    assert run([*command, "--out", str(program)]) == 0
    assert "for inputs of Nx3x12x12" in printed(capfd)
    loaded = torch.export.load(program).module()
    assert torch.allclose(loaded(x), expected(x), atol=1e-5)


def test_data_by_name_and_from_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["decompose", f"{HERE}:classifier", "--method", "svd", "--max-error", "0.5", "--data", "digits"]
    assert run([*command, "--compressed"]) == 0
    assert "held out" in printed(capfd)
    generator = torch.Generator().manual_seed(0)
    for index in range(6):
        pixels = torch.randint(0, 255, (20, 16, 3), generator=generator, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(tmp_path / f"{index}.png")
    command = ["decompose", f"{HERE}:small", *INPUT, "--method", "svd", "--rank", "2", "--data", str(tmp_path)]
    assert run(command) == 0
    assert "Fitted to 4 samples, chosen on 1, held out 1" in printed(capfd)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--method", "svdd", "--rank", "2"], "Did you mean 'svd'?"),
        (["--rank", "two"], "--rank: this is no rank: got 'two', expected 8, 0.25, 16x8 or LAYER=8."),
        (["--rank", "2", "--rank", "0=2"], "--rank: several ranks are given, one without its layer"),
        (["--target-macs", "half"], "--target-macs: this is no number of MACs: got 'half'"),
        (
            ["--rank", "2", "--out", "small.bin"],
            "--out: a decomposed model is not written in this form: got 'small.bin'",
        ),
        (["--rank", "2", "--out", "small.onnx"], "--input: a program is exported on an example input"),
        (["--rank", "2", "--data", "nowhere"], "--input: pictures need a size: expected a shape as 1x3x224x224."),
        (["--rank", "2", "--data", "nowhere", *INPUT], "nowhere: there is no such folder of pictures"),
        (["--rank", "2", "--data", "src", *INPUT], "src: there is no picture in it"),
        (["--rank", "2", "--data", "src", "--input", "1x2x8x8"], "--data: a picture has 1 or 3 channels: got 2 in the"),
        ([], "decompose takes one measure of how far to go"),
    ],
)
def test_bad_options_end_in_a_sentence(
    options: list[str],
    sentence: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    assert run(["decompose", f"{HERE}:small", *options]) == 2
    assert sentence in printed(capfd)
    assert [path.name for path in tmp_path.iterdir()] == ["src"]


def test_a_broken_picture_is_told(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    assert run(["decompose", f"{HERE}:small", "--rank", "2", "--data", str(tmp_path), *INPUT]) == 2
    assert "a.png: this is no picture that can be read" in printed(capfd)


def test_rank_prints_writes_and_draws(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = tmp_path / "ranks.json"
    for plot in (tmp_path / "ranks.png", tmp_path / "ranks.html"):
        assert run(["rank", f"{HERE}:small", *INPUT, "--json", str(told), "--plot", str(plot)]) == 0
        assert plot.stat().st_size > 1000
    text = printed(capfd)
    assert "8 of 8" in text
    assert "3: it is a transposed convolution" in text
    assert "Feature maps seen on random noise" in text
    rows = json.loads(told.read_text())["rows"]
    assert [row["layer"] for row in rows] == ["0", "2"]
    assert rows[0]["features"]["channels"] == 8
    assert run(["rank", f"{HERE}:classifier", "--data", "digits"]) == 0
    assert "seen on digits" in printed(capfd)
    assert run(["rank", f"{HERE}:small", "--plot", str(tmp_path / "ranks.pdf")]) == 2
    assert "--plot: a plot is not written in this form: got 'ranks.pdf'" in printed(capfd)
    assert run(["rank", "tests.decompose.test_cli:transposed"]) == 2
    assert "no layer has a kernel to be ranked: got : it is a transposed convolution" in printed(capfd)


def transposed() -> nn.Module:
    return nn.ConvTranspose2d(2, 2, 2)


def test_ranks_are_those_of_the_kernel() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, dtype=torch.float64)
    conv.weight.data = (torch.randn(6, 2).double() @ torch.randn(2, 36).double()).reshape(6, 4, 3, 3)
    (row,) = rank(conv).rows
    assert (row.numerical, row.full) == (2, 6)
    assert row.energy[1] <= 2
    assert row.features is None
    separable = nn.Conv2d(4, 6, 3, dtype=torch.float64)
    separable.weight.data = torch.randn(6, 4, 1, 1).double() * torch.randn(1, 4, 3, 3).double()
    (row,) = rank(separable, torch.randn(3, 4, 6, 6).double()).rows
    assert row.separable is not None
    assert row.separable < 1e-12
    assert row.features is not None
    assert 1 < row.features.participation <= row.features.entropy <= 6


def test_effective_ranks_of_known_spectra() -> None:
    even = effective_ranks(torch.eye(5, dtype=torch.float64))
    assert (even.participation, even.entropy) == (pytest.approx(5), pytest.approx(5))
    one = effective_ranks(torch.ones(4, 4, dtype=torch.float64))
    assert (one.participation, one.entropy) == (pytest.approx(1), pytest.approx(1))
    values = torch.tensor([3.0, 1.0], dtype=torch.float64)
    two = effective_ranks(torch.diag(values))
    assert two.participation == pytest.approx(16 / 10)
    none = effective_ranks(torch.zeros(3, 3, dtype=torch.float64))
    assert (none.participation, none.entropy) == (0, 0)


def test_the_page_s_first_examples_run() -> None:
    page = (Path(__file__).parents[2] / "docs" / "decompose.md").read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL)[:2]:
        exec(code, names)
    report = names["report"]
    assert report.macs_after <= 0.6 * report.macs_before
    assert torch.is_tensor(names["small"](names["x"]))
    assert convfold.decompose is decompose
