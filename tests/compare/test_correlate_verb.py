"""``convfold correlate``: what it prints, draws and refuses."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from convfold.cli import run
from support.verbs import printed

HERE = "tests.compare.test_correlate_verb"
INPUT = ("--input", "4x2x6x6")


def plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))


def deeper() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 5, 1))


def test_one_model_prints_and_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    assert run(["correlate", f"{HERE}:plain", *INPUT, "--json", str(file)]) == 0
    text = printed(capfd)
    assert "mean |r|" in text
    assert "random noise" in text
    found = json.loads(file.read_text())
    assert [row["layer"] for row in found["models"][0]["rows"]] == ["0", "2"]
    assert [sum(row["histogram"]) for row in found["models"][0]["rows"]] == [6, 10]


def test_two_models_stand_side_by_side_with_their_own_weights(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = plain().state_dict()
    weights["0.weight"] = weights["0.weight"][:1].repeat(4, 1, 1, 1)  # four equal channels: r = 1
    save_file(weights, tmp_path / "equal.safetensors")
    file = tmp_path / "found.json"
    arguments = ["correlate", f"{HERE}:deeper", "--vs", f"{HERE}:plain", *INPUT, "--json", str(file)]
    assert run([*arguments, "--vs-weights", str(tmp_path / "equal.safetensors")]) == 0
    assert "mean |r| deeper" in printed(capfd)
    first, second = json.loads(file.read_text())["models"]
    assert first["rows"][0]["mean_abs"] < 0.99
    assert second["rows"][0]["mean_abs"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".html"])
def test_it_is_drawn(suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    file = tmp_path / f"drawn{suffix}"
    assert run(["correlate", f"{HERE}:plain", "--vs", f"{HERE}:deeper", *INPUT, "--plot", str(file)]) == 0
    assert f"written: {file}" in printed(capfd)
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".html": b"<!doctype html>"}[suffix]
    assert file.read_bytes().startswith(start)
    if suffix == ".html":
        page = file.read_text()
        assert page.count("<svg") == 2
        assert "plain: mean |r|" in page


def test_digits_are_data(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    assert run(["correlate", "convfold.studies.compare.dynamic.network:condconv", "--data", "digits"]) == 0
    text = printed(capfd)
    assert "blocks.1.chain.convs.1" in text
    assert "Seen on digits." in text


@pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
def test_a_model_of_timm() -> None:
    assert run(["correlate", "timm:mobilenetv3_small_050", "--input", "1x3x32x32"]) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([f"{HERE}:plain"], "it needs data, or the shape of an input"),
        ([f"{HERE}:plain", *INPUT, "--plot", "drawn.jpg"], "a plot is not written in this form"),
        ([f"{HERE}:plain", *INPUT, "--vs-weights", "w.safetensors"], "there is no second model for them"),
        ([f"{HERE}:plain", *INPUT, "--where", "head"], "where reaches no module"),
        ([f"{HERE}:plain", "--input", "4x3x6x6"], "does not run on these example inputs"),
        ([f"{HERE}:plain", *INPUT, "--data", "nowhere"], "a picture has 1 or 3 channels"),
    ],
)
def test_bad_input_is_a_sentence(arguments: list[str], sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["correlate", *arguments]) == 2
    text = printed(capfd)
    assert sentence in text.replace("\n", " ")
    assert "Traceback" not in text


def test_random_weights_are_the_same_each_time(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["correlate", f"{HERE}:plain", *INPUT]) == 0
    first = printed(capfd)
    torch.manual_seed(99)
    assert run(["correlate", f"{HERE}:plain", *INPUT]) == 0
    assert printed(capfd) == first
