"""Input that cannot be folded or written: one sentence, exit code 2, no file, no traceback."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.cli.bad_models import plain
from torch import nn

from convfold.cli import run

BAD = "tests.cli.bad_models"
INPUT = ("--input", "1x3x12x12")


def refused(line: list[str], folder: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """The sentence that this line ends in; everything else it must not do is checked."""
    before = listed(folder)
    assert run(line) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("convfold: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert listed(folder) == before
    return err


def listed(folder: Path) -> dict[Path, bytes]:
    """Every file and folder, with what is in it."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("meta", "weights on the meta device have no values. Load the weights first."),
        ("sparse", "4.weight: sparse weights are not captured"),
        ("quantised", "0.codes: quantised weights are not captured. Fold the model before it is quantised."),
        ("diverged", "0: kernel is not folded: 27 of its 108 values"),
        ("Words", "Words: the model does not run on these example inputs"),
    ],
)
def test_models(name: str, sentence: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert sentence in refused(["fold", f"{BAD}:{name}", *INPUT, "--out", "out"], here, capfd)


@pytest.mark.parametrize("shape", ["3x12", "1x5x12x12", "1x3x11x12"])
def test_inputs_of_another_rank_or_size(shape: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(["fold", f"{BAD}:plain", "--input", shape, "--out", "out"], here, capfd)
    assert "the model does not run on these example inputs" in said
    assert str([int(n) for n in shape.split("x")]) in said


def test_a_model_that_cannot_be_captured_is_planned_below(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", f"{BAD}:Branching", *INPUT]) == 0
    said = capfd.readouterr().out
    assert "y.mean() > 0" in said
    assert "the model cannot be captured" in said
    assert "body.0" in said


def test_a_normalisation_that_stays_in_training_mode_is_named(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(["fold", f"{BAD}:stubborn", *INPUT, "--out", "out"], here, capfd)
    assert "1: Stubborn is not folded: it is in training mode" in said


def exported(model: nn.Module, path: Path, batch: int = 1) -> None:
    torch.export.save(torch.export.export(model, (torch.randn(batch, 3, 12, 12),)), path)


def test_files_that_are_no_program(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(plain().eval(), here / "whole.pt2")
    content = (here / "whole.pt2").read_bytes()
    (here / "cut.pt2").write_bytes(content[: len(content) // 2])
    (here / "empty.pt2").write_bytes(b"")
    torch.save(plain().state_dict(), here / "weights.pt2")
    middle = len(content) // 3
    (here / "damaged.pt2").write_bytes(content[:middle] + bytes(200) + content[middle + 200 :])
    for name, sentence in {
        "cut": "cut.pt2: this is no whole .pt2 file: expected a file that torch.export.save wrote to its end.",
        "empty": "this is no whole .pt2 file",
        "weights": "weights.pt2: this .pt2 file does not load (RuntimeError in torch.export.load): expected a file",
        "damaged": "damaged.pt2: this .pt2 file does not load (",
        "none": "none.pt2: there is no such file.",
    }.items():
        assert sentence in refused(["fold", f"{name}.pt2", "--out", "out.pt2"], here, capfd)


def test_a_program_exported_in_training_mode(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(plain().train(), here / "train.pt2", batch=2)
    said = refused(["plan", "train.pt2"], here, capfd)
    assert "train.pt2: batch_norm in 1 was exported in training mode. Call model.eval() before" in said


def test_a_program_at_other_sizes(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(plain().eval(), here / "net.pt2")
    said = refused(["plan", "net.pt2", "--input", "1x3x11x12"], here, capfd)
    assert "the program was exported for other sizes: got 1x3x11x12, expected 1x3x12x12" in said


def test_an_onnx_file_is_no_torch_model(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(["expand", "net.onnx", "dbb"], here, capfd)
    assert "net.onnx: an ONNX file is no torch model: expected timm:NAME" in said
    assert "file.pt2. convfold cost, fold, plan and verify take ONNX files." in said


def test_a_fold_without_a_place(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(["fold", f"{BAD}:plain", *INPUT], here, capfd)
    assert "--out: a fold is written to a file: expected a name that ends in .pt2 or .onnx" in said
    assert "With --dry-run it is shown alone." in said


def test_an_unknown_objective(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(["plan", f"{BAD}:plain", *INPUT, "--objective", "size"], here, capfd)
    assert "'size' is not one of 'macs', 'latency', 'ops'" in said


@pytest.mark.parametrize(
    ("out", "sentence"),
    [
        ("missing/net.pt2", "missing: there is no such folder. Make it first, or choose another place."),
        ("missing/net", "missing: there is no such folder"),
        ("file/net.onnx", "file: there is no such folder"),
        ("file", "file: this is a file: expected the name of a folder"),
        ("folder.pt2", "folder.pt2: this is a folder: expected the name of a file"),
        (
            "net.pt",
            "--out: a folded model is not written in this form: got 'net.pt', expected a name that ends in .pt2",
        ),
        ("/proc/net.pt2", "/proc: cannot write ("),
        ("/proc/nowhere", "/proc: cannot write ("),
    ],
)
def test_places(out: str, sentence: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "file").write_text("")
    (here / "folder.pt2").mkdir()
    assert sentence in refused(["fold", f"{BAD}:plain", *INPUT, "--out", out], here, capfd)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "closed").mkdir(mode=0o500)
    said = refused(["fold", f"{BAD}:plain", *INPUT, "--out", "closed"], here, capfd)
    assert "closed: cannot write (permission denied)" in said


def test_nothing_is_written_over_what_is_read(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    exported(plain().eval(), here / "net.pt2")
    (here / "out").mkdir()
    save_file(plain().state_dict(), here / "out" / "model.safetensors")
    read = "is read, and would be written over. Name another file."
    assert f"--out: net.pt2 {read}" in refused(["fold", "net.pt2", "--out", "./net.pt2"], here, capfd)
    model = [f"{BAD}:plain", *INPUT, "--weights", "out/model.safetensors"]
    assert f"--out: out/model.safetensors {read}" in refused(["fold", *model, "--out", "out"], here, capfd)
    said = refused(["plan", *model, "--json", "a.json", "--out", "a.json"], here, capfd)
    assert "--out: a.json is written already" in said
    said = refused(["fold", *model, "--out", "b.pt2", "--report", "b.pt2"], here, capfd)
    assert "--report: b.pt2 is written already" in said


@pytest.mark.parametrize(
    ("missing", "options"),
    [("onnx", ["fold", "--out", "net.onnx"]), ("jinja2", ["plan", "--report", "net.html"])],
)
def test_without_the_extra(
    missing: str, options: list[str], here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    target = "convfold.transform.ship.target.find_spec"
    monkeypatch.setattr(target, lambda name: None if name == missing else find(name))
    said = refused([options[0], f"{BAD}:plain", *INPUT, *options[1:]], here, capfd)
    assert f"writing this needs {missing}, not installed. pip install 'convfold[onnx,report]'" in said


def test_an_explanation_needs_an_input(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = refused(["plan", f"{BAD}:plain", "--explain"], here, capfd)
    assert "--input: an explanation needs an example input: expected a shape as 1x3x224x224." in said


def test_a_folder_is_no_model_on_its_own(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "out").mkdir()
    said = refused(["plan", "out"], here, capfd)
    assert "this names no model: got 'out'" in said
    assert "convfold verify MODEL FOLDER" in said
