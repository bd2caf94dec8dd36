"""The verbs that read a model: what they print, write and answer."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from convfold import blocks, load_plan
from convfold.cli import run
from support.verbs import printed

HERE = "tests.cli.test_verbs"
INPUT = ("--input", "1x3x12x12")


def wide() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(blocks.DBBConv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


def other() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


def test_plan_prints_and_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    assert run(["plan", f"{HERE}:wide", *INPUT, "--out", str(out)]) == 0
    text = printed(capfd)
    assert "DBBConv2d" in text
    assert "2 + 3" in text
    assert len(json.loads(out.read_text())["regions"]) == 2


def test_fold_writes_what_loads_into_a_fresh_model(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["fold", f"{HERE}:wide", *INPUT, "--out", str(tmp_path)]) == 0
    assert "equal: error" in printed(capfd)
    folded = load_plan(tmp_path / "plan.json").apply(wide())
    folded.load_state_dict(load_file(tmp_path / "model.safetensors"))
    x = torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(folded.eval()(x), wide().eval()(x), rtol=1e-4, atol=1e-5)
    assert not [m for m in folded.modules() if isinstance(m, nn.BatchNorm2d)]


def test_weights_are_loaded(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = wide()
    with torch.no_grad():
        model[2].weight.fill_(float("nan"))
    save_file(model.state_dict(), tmp_path / "bad.safetensors")
    assert run(["plan", f"{HERE}:wide", "--weights", str(tmp_path / "bad.safetensors")]) == 0
    assert "not finite" in printed(capfd)


def test_verify_answers_with_its_exit_code(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", f"{HERE}:wide", f"{HERE}:wide", *INPUT]) == 0
    assert printed(capfd).startswith("equal")
    assert run(["verify", f"{HERE}:wide", f"{HERE}:other", *INPUT]) == 1
    assert printed(capfd).startswith("NOT EQUAL")


def test_expand_shows_the_choice(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["expand", f"{HERE}:other", "repvgg", *INPUT]) == 0
    text = printed(capfd)
    assert text.count("RepVGGConv2d") == 2
    assert "same function in eval mode only" in text  # the first convolution has no norm behind it


def test_cost_counts(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", f"{HERE}:other", *INPUT]) == 0
    assert f"{12 * 12 * 9 * 3 * 4 + 10 * 10 * 9 * 4 * 4:,}" in printed(capfd)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["plan", "resnet18"], "this names no model: got 'resnet18', expected timm:NAME, torchvision:NAME, package"),
        (["plan", "nowhere.at.all:net"], "the package nowhere is not installed. Is it on PYTHONPATH?"),
        (["plan", f"{HERE}:wid"], f"{HERE} has no wid. Did you mean wide"),
        (["plan", f"{HERE}:printed"], "printed() missing 1 required positional argument"),
        (["plan", f"{HERE}:INPUT"], "object is not callable"),
        (["plan", f"{HERE}:wide", "--input", "3x"], "--input: this is no shape: got '3x', expected sizes as"),
        (["plan", f"{HERE}:wide", "--input", "1x5x12x12"], "does not run on these example inputs"),
        (["plan", f"{HERE}:wide", "--weights", "none.safetensors"], "these weights do not load"),
        (["fold", f"{HERE}:wide", "--out", "x"], "--input: a fold is verified on an example input"),
        (["verify", f"{HERE}:wide", f"{HERE}:wide"], "--input: models are compared on an example input"),
        (["cost", f"{HERE}:wide"], "--input: costs depend on the input"),
        (["expand", f"{HERE}:wide", "repvg"], "unknown block: got 'repvg'"),
    ],
)
def test_bad_lines_end_in_one_sentence(
    line: list[str], sentence: str, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(line) == 2
    text = printed(capfd)
    assert sentence in text
    assert "Traceback" not in text
    assert not list(tmp_path.iterdir())
