"""``convfold lower``: what it prints, writes and answers."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convfold import errors
from convfold.cli import run
from convfold.transform.lower import targets
from support.verbs import printed

HERE = "tests.lower.test_verb"
INPUT = ("--input", "1x4x9x10")


def model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.Conv2d(6, 3, 3))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = nn.Conv2d(4, 4, 1), nn.Parameter(torch.randn(3, 4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(self.first(x), self.weight)


def test_it_tells_what_became_of_each_layer_and_writes_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, told = tmp_path / "chip.pt2", tmp_path / "chip.json"
    assert run(["lower", f"{HERE}:model", *INPUT, "-t", "no-1x1", "-o", str(out), "--json", str(told)]) == 0
    text = printed(capfd)
    assert "pointwise" in text
    assert "no-1x1: reached" in text
    assert f"written: {out}" in text
    found = json.loads(told.read_text())
    assert found["target"] == "no-1x1"
    assert [row["layer"] for row in found["rows"]] == ["0"]
    torch.manual_seed(0)  # as the command draws its weights
    original = model()
    x = torch.randn(3, 4, 9, 10)
    torch.testing.assert_close(torch.export.load(out).module()(x), original(x))


def test_the_list_names_every_target(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lower", "--list"]) == 0
    text = printed(capfd)
    assert all(name in text for name in targets())


def test_a_target_that_is_not_reached_is_an_error_unless_partial(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lower", f"{HERE}:Own", *INPUT, "-t", "no-1x1"]) == 2
    assert "Own.forward executes it itself" in printed(capfd)
    assert run(["lower", f"{HERE}:Own", *INPUT, "-t", "no-1x1", "--partial"]) == 0
    assert "NOT reached" in printed(capfd)


def test_unequal_is_one_and_nothing_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unequal(*args: object, **options: object) -> None:
        raise errors.NotEqual("the lowered model does not compute the same")

    monkeypatch.setattr("convfold.cli.lower.rewrite", unequal)
    out = tmp_path / "chip.onnx"
    assert run(["lower", f"{HERE}:model", *INPUT, "-t", "no-1x1", "-o", str(out)]) == 1
    assert "does not compute the same" in printed(capfd)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "MODEL: no model was named. convfold lower --list shows the targets."),
        ([f"{HERE}:model"], "--target: no target was named. convfold lower --list shows the targets."),
        ([f"{HERE}:model", *INPUT, "-t", "no1x1"], "Did you mean no-1x1?"),
        ([f"{HERE}:model", *INPUT, "-t", "nowhere.toml"], "nowhere.toml: this is no target"),
        ([f"{HERE}:model", "-t", "no-1x1"], "a lowering is verified on an example input"),
        (["net.onnx", "-t", "no-1x1"], "net.onnx: an ONNX file is not lowered."),
        ([f"{HERE}:model", *INPUT, "-t", "no-1x1", "-o", "chip"], "a lowered model is not written in this form"),
        ([f"{HERE}:model", *INPUT, "-t", "no-1x1", "-o", "/nowhere/chip.onnx"], "there is no such folder"),
        ([f"{HERE}:model", *INPUT, "-t", "no-1x1", "--json", "/nowhere/chip.json"], "there is no such folder"),
    ],
)
def test_bad_input_ends_in_one_sentence(arguments: list[str], sentence: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["lower", *arguments]) == 2
    text = printed(capfd)
    assert sentence in text
    assert "Traceback" not in text
