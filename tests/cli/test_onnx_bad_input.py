"""ONNX files that cannot be read, folded or written: one sentence, exit code 2, no file, no traceback."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from tests.cli.test_bad_input import listed, refused

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_ir as ir

from support.onnx_small import CHANNELS, branched, save

MODEL = ("net.onnx", "--input", f"1x{CHANNELS}x12x12")
OVER = "and would be written over. Name another file."


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    save(branched(), tmp_path / "net.onnx")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["fold", "net.onnx"], "--out: a fold is written to a file: expected a name that ends in .pt2 or .onnx"),
        (["fold", "net.onnx", "-o", "net.pt2"], "--out: an ONNX file is folded into an ONNX file: got 'net.pt2'"),
        (["fold", "net.onnx", "-o", "out"], "got 'out', expected a name that ends in .onnx."),
        (["fold", "net.onnx", "-o", "./net.onnx"], f"--out: net.onnx is read, {OVER}"),
        (["fold", "net.onnx", "-o", "linked.onnx"], f"linked.onnx: net.onnx is read, {OVER}"),
        (["fold", "net.onnx", "-o", "missing/out.onnx"], "missing: there is no such folder. Make it first"),
        (["fold", "net.onnx", "-o", "folder.onnx"], "folder.onnx: this is a folder: expected the name of a file"),
        (["fold", "net.onnx", "-o", "/proc/out.onnx"], "/proc: cannot write ("),
        (["fold", "net.onnx", "-o", "a.onnx", "--json", "a.onnx"], "--json: a.onnx is written already"),
        (["fold", "net.onnx", "-o", "a.onnx", "--json", "a.onnx.data"], "--json: a.onnx.data is written already"),
        (["fold", "net.onnx", "--dry-run", "-o", "net.onnx"], f"--out: net.onnx is read, {OVER}"),
        (["fold", "net.onnx", "--dry-run", "--json", "net.onnx"], f"--json: net.onnx is read, {OVER}"),
        (["fold", "net.onnx", "-o", "a.onnx", "--weights", "w"], "--weights: an ONNX file holds its weights: got w."),
        (["plan", "net.onnx", "--out", "p.json"], "--out: plans of ONNX files are not saved: got p.json. --json"),
        (["plan", "net.onnx", "--weights", "w"], "--weights: an ONNX file holds its weights"),
        (["plan", "net.onnx", "--input", "3x"], "--input: this is no shape: got '3x'"),
        (["plan", "net.onnx", "--input", "1x8"], "x: the file does not take this shape: got [1, 8], expected ["),
        (["plan", "net.onnx", "--input", "1x5x9x9"], "x: the file does not take this shape: got [1, 5, 9, 9]"),
        (["plan", "net.onnx", "--input", "1x8x9x8"], "x: the size 'size' has two values: got 8, expected 9"),
        (
            ["plan", *MODEL, "--input", "1x3"],
            "net.onnx: there are more shapes than inputs: got 2, expected one for 'x'.",
        ),
        (["verify", "net.onnx", "timm:resnet18"], "an ONNX file is compared with an ONNX file: got 'timm:resnet18'"),
        (
            ["verify", "tests.cli.bad_models:plain", "net.onnx"],
            "expected a name that ends in .onnx. convfold fold MODEL",
        ),
        (["verify", "net.onnx", "net.onnx", "--weights", "w"], "--weights: an ONNX file holds its weights"),
        (["verify", "net.onnx", "none.onnx"], "none.onnx: cannot read (no such file or directory)"),
        (["plan", "none.onnx"], "none.onnx: cannot read (no such file or directory). Check the path."),
        (["plan", "cut.onnx"], "cut.onnx: not an ONNX model, or a truncated or damaged one"),
        (["fold", "text.onnx", "-o", "a.onnx"], "text.onnx: not an ONNX model"),
        (["fold", "folder.onnx", "-o", "a.onnx"], "folder.onnx: a folder, not an ONNX file."),
    ],
)
def test_lines(line: list[str], sentence: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = (here / "net.onnx").read_bytes()
    (here / "cut.onnx").write_bytes(content[: len(content) // 2])
    (here / "text.onnx").write_text("no model")
    (here / "folder.onnx").mkdir()
    os.link(here / "net.onnx", here / "linked.onnx")
    assert sentence in refused(line, here, capfd)


@pytest.mark.parametrize("name", ["out.onnx", "out.onnx.data"])
def test_weights_that_are_read_are_not_written_over(name: str, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(branched(channels=32), here / "wide.onnx", apart=name)
    said = refused(["fold", "wide.onnx", "-o", "out.onnx"], here, capfd)
    assert f"{name} is read, {OVER}" in said


@pytest.mark.parametrize("apart", ["", "weights.bin"])
def test_a_full_disk(
    apart: str, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save(branched(), here / "net.onnx", apart=apart)
    (here / "out.onnx").write_text("what was there")
    write = ir.save

    def full(model: ir.Model, path: Path, **options: object) -> None:
        write(model, path, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ir, "save", full)
    said = refused(["fold", *MODEL, "-o", "out.onnx"], here, capfd)
    assert "out.onnx: cannot write (no space left on device). Choose another place, or free this one." in said
    said = refused(["plan", *MODEL, "--json", "a.json"], here, capfd)
    assert "cannot write the folded file to time it (no space left on device). Choose another place with TMPDIR" in said


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.ismount("/proc"), reason="only root may mount")
def test_a_disk_that_is_full_indeed(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "small").mkdir()
    if os.system("mount -t tmpfs -o size=64k tmpfs small 2>/dev/null"):
        pytest.skip("tmpfs cannot be mounted here")
    try:
        save(branched(channels=64), here / "wide.onnx")
        save(branched(channels=64), here / "apart.onnx", apart="weights.bin")
        for model in ("wide.onnx", "apart.onnx"):
            line = ["fold", model, "-o", "small/out.onnx", "--input", "1x64x8x8"]
            assert "cannot write (no space left on device)" in refused(line, here, capfd)
        assert not listed(here / "small")
    finally:
        assert os.system("umount small") == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "closed").mkdir(mode=0o500)
    assert "closed: cannot write (permission denied)" in refused(["fold", *MODEL, "-o", "closed/a.onnx"], here, capfd)


@pytest.mark.parametrize("line", [["fold", *MODEL, "--dry-run"], ["plan", *MODEL], ["verify", "net.onnx", "net.onnx"]])
def test_without_the_extra(
    line: list[str], here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fold_onnx = sys.modules["convfold.transform.fold_onnx"]
    monkeypatch.setattr(fold_onnx, "find_spec", lambda name: None if name == "onnx_ir" else object())
    said = refused(line, here, capfd)
    assert "ONNX files need onnx_ir, not installed. pip install 'convfold[onnx]' brings it." in said
