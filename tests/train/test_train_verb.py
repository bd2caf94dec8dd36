"""``convfold train`` as a person uses it: what it writes, says and answers."""

from __future__ import annotations

import json
import os
import re
import signal
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from support.training import TINY, launch, pictures, tiny, torchrun, workers_of

pytest.importorskip("sklearn")

from convfold import expand, load_plan
from convfold.cli import run
from convfold.report.training_curves import training_curves
from convfold.train import Session, Settings
from support.verbs import printed

SHORT = ["digits", "--model", TINY, "--epochs", "2", "--batch-size", "128"]


def test_digits_end_as_files_that_agree(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", *SHORT, "--expand", "dbb", "--out", str(tmp_path), "--no-tensorboard"]) == 0
    text = printed(capfd)
    assert "898 images to train on, 899 to test on, 10 classes, shown as 1x8x8" in text
    assert "expanded without a change of function from its own start" in text
    assert re.search(r"epoch 2/2  loss [\d.]+  training error [\d.]+ %  test error [\d.]+ %", text)
    assert "folded: equal: error" in text
    assert "0 of 899 predictions changed" in text
    for name in ("checkpoint.safetensors", "final.safetensors", "folded.safetensors", "plan.json", "result.json"):
        assert (tmp_path / name).stat().st_size
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["changed"] == 0
    assert result["wrong_trained"] == result["wrong_folded"]
    costs = result["costs"]
    assert costs["trained"]["macs"] > costs["named"]["macs"] >= costs["folded"]["macs"]
    # The files of the trained and of the folded network are one function.
    wide = expand(tiny(), "dbb", example_inputs=torch.zeros(2, 1, 8, 8))
    wide.load_state_dict(load_file(tmp_path / "final.safetensors"))
    folded = load_plan(tmp_path / "plan.json").apply(wide)
    for parameter in folded.parameters():
        torch.nn.init.zeros_(parameter)
    folded.load_state_dict(load_file(tmp_path / "folded.safetensors"))
    x = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(folded.eval()(x), wide.eval()(x), rtol=1e-4, atol=1e-5)
    if find_spec("onnxruntime"):
        import onnxruntime

        session = onnxruntime.InferenceSession(tmp_path / "folded.onnx")
        found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), wide(x), rtol=1e-4, atol=1e-5)


def test_a_folder_of_pictures_with_logs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = pictures(tmp_path / "pets", count=8)
    (folder / "cat" / "a:dog:.png").write_bytes(b"no picture")
    words = ["train", str(folder), "--model", "support.training:coloured", "--epochs", "2", "--batch-size", "6"]
    assert run([*words, "--out", str(tmp_path / "out")]) == 2
    assert "1 picture cannot be read" in printed(capfd)
    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert run([*words, "--out", str(tmp_path / "out"), "--bad-pictures", "skip", "--ema", "0.9"]) == 0
    text = printed(capfd)
    assert "1 picture cannot be read and is left out: cat/a:dog:.png" in text
    assert "shown as 3x12x12; augmentation shift and flips" in text
    assert json.loads((tmp_path / "out" / "result.json").read_text())["input"]["classes"] == ["cat", "dog"]
    if find_spec("tensorboard"):
        assert any((tmp_path / "out" / "tensorboard").iterdir())
    if find_spec("matplotlib"):
        assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_title_is_no_formula(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    record = {"epoch": 1, "train_loss": 1.0, "train_error": 0.5, "test_error": 0.5, "learning_rate": 0.1}
    training_curves(tmp_path / "c.png", r"pictures of $\money_^$", [record], None)
    assert (tmp_path / "c.png").stat().st_size


def test_a_resume_says_where_it_is_and_a_second_begin_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["train", *SHORT, "--out", str(tmp_path), "--no-tensorboard"]
    assert run(words) == 0
    final = (tmp_path / "final.safetensors").read_bytes()
    printed(capfd)
    assert run(words) == 2
    assert "a training is here already: got checkpoint.safetensors. --resume goes on with it" in printed(capfd)
    (tmp_path / "final.safetensors").unlink()
    assert run([*words, "--resume"]) == 0
    assert "resumed after epoch 2 of 2" in printed(capfd)
    assert (tmp_path / "final.safetensors").read_bytes() == final
    assert run([*words, "--resume", "--lr", "0.1"]) == 2
    assert "learning rate 0.05 -> 0.1" in printed(capfd)


def test_a_fold_that_changes_the_function_exits_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from convfold.train import ending

    def wrong(model: torch.nn.Module, inputs: object) -> object:
        decided = plan(model, inputs)
        apply = type(decided).apply

        def spoilt(self: object) -> torch.nn.Module:
            folded = apply(self)
            with torch.no_grad():
                next(folded.parameters()).mul_(1.5)
            return folded

        monkeypatch.setattr(type(decided), "apply", spoilt)
        return decided

    plan = ending.plan
    monkeypatch.setattr(ending, "plan", wrong)
    assert run(["train", *SHORT, "--out", str(tmp_path), "--no-tensorboard"]) == 1
    assert "NOT EQUAL" in printed(capfd)
    assert not (tmp_path / "folded.safetensors").exists()
    assert (tmp_path / "final.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "--model", TINY, "--epochs", "1"], "nowhere: there is no such folder of pictures"),
        (["digits", "--model", "timm:nothing_of_this_name", "--epochs", "1"], "unknown model"),
        (["digits", "--model", TINY, "--epochs", "0"], "--epochs: epochs is impossible: got 0"),
        (["digits", "--model", TINY, "--epochs", "1", "--world-size", "2"], "another number of processes was started"),
        (["digits", "--model", TINY], "Missing option '--epochs'"),
        (["digits", "--model", TINY, "--epochs", "1", "--optimiser", "lion"], "'lion' is not one of"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, words: list[str], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", *words, "--out", str(tmp_path / "out")]) == 2
    text = printed(capfd)
    assert sentence in text
    assert "Traceback" not in text


def test_help_names_both_trainings(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--help"]) == 0
    text = printed(capfd)
    assert all(
        word in text
        for word in ("convfold train [OPTIONS]", "DATA", "--expand", "--resume", "convfold train sr --help")
    )
    assert run(["train", "sr", "--help"]) == 0
    assert "--scale" in printed(capfd)


def test_weights_of_another_model_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_file({"w": torch.zeros(1)}, tmp_path / "w.safetensors")
    assert run(["train", *SHORT, "--weights", str(tmp_path / "w.safetensors"), "--out", str(tmp_path / "o")]) == 2
    assert "these weights are of another model" in printed(capfd)


@pytest.mark.slow
def test_two_processes_train_as_one_and_a_lost_one_is_a_sentence(tmp_path: Path) -> None:
    """One run of two processes to its end, beside one process; then one of two is killed."""
    words = ["digits", "--model", TINY, "--epochs", "2", "--batch-size", "128", "--expand", "dbb", "--world-size"]
    one = Session(Settings("digits", TINY, 2, batch_size=128, expand="dbb"), tmp_path / "one")
    alone = one.train()
    one.close()
    two = launch(torchrun(2, *words, "2", "--out", str(tmp_path / "two")))
    text, _ = two.communicate()
    assert two.returncode == 0, text
    assert text.count("folded: equal") == 1
    assert "2 processes on cpu" in text
    assert load_file(tmp_path / "two" / "final.safetensors").keys() == one.shipped().state_dict().keys()
    for record, line in zip(alone, (tmp_path / "two" / "metrics.jsonl").open(), strict=True):
        # The same batches, statistics and steps; sums are taken in another order.
        assert abs(record.train_loss - json.loads(line)["train_loss"]) < 1e-4 * record.train_loss
    longer = [*words[:4], "40", *words[5:], "2", "--out", str(tmp_path / "lost")]
    lost = launch(torchrun(2, *longer))
    pids = workers_of(lost.pid, tmp_path / "lost" / "checkpoint.safetensors")
    os.kill(pids[1], signal.SIGKILL)
    text, _ = lost.communicate()
    assert lost.returncode != 0
    assert re.search(r"convfold: (process 0 of 2: another process of this training ended|interrupted)", text), text
    assert not [path for path in (tmp_path / "lost").iterdir() if re.match(r"\.\w+-\d+\.", path.name)]
    kept = [json.loads(line)["epoch"] for line in (tmp_path / "lost" / "metrics.jsonl").open()]
    assert kept == list(range(1, len(kept) + 1))
