"""``convfold train sr``: runs, files and a report; it goes on where it was; bad input as sentences."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from convfold.cli import run
from convfold.errors import ConvfoldError, InvalidArgument
from convfold.studies.sr import folder as sr_folder
from convfold.studies.sr.options import Options
from convfold.studies.sr.results import Results
from convfold.studies.sr.runs import Run, Settings, SrJob, _thinned, fingerprint, stretch
from convfold.studies.sr.study import train_sr
from convfold.studies.sr.words import gap, headline, limits, verdicts
from convfold.train.sr import SrRecipe, bundled, from_folder
from sr.photographs import folder, picture, save
from support.verbs import Here, said

SMALL = ["--steps", "4", "--batch-size", "2", "--patch", "12", "--width", "4", "--depth", "2"]
RECIPE = SrRecipe(4, 2, 12)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sr_folder, "Workers", Here)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("pictures") / "shown", 5)


def train(shown: Path, out: Path, *more: object) -> int:
    return run(["train", "sr", "--pictures", str(shown), "--out", str(out), *SMALL, *map(str, more)])


def test_one_run_in_a_worker_gives_files_that_enlarge(
    shown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sr"
    assert train(shown, out, "--block", "plain", "--workers", 1) == 0
    assert "Use: convfold upscale PICTURE --model" in said(capsys)
    lines = (out / "runs.jsonl").read_text().splitlines()
    assert [(json.loads(line)["name"], json.loads(line)["seed"]) for line in lines] == [("plain@0.002", 0)]
    assert list((out / "checkpoints").iterdir()) == []
    report = (out / "report.html").read_text()
    assert "No block was asked for beside it." in report
    assert report.count("data:image/png;base64,") == 1
    assert Image.open(out / "pictures" / "1-4-png.png").size[0] > 600
    source = save(tmp_path / "cat.png", picture("cat"))
    assert run(["upscale", str(source), "--model", str(out / "models" / "plain.onnx")]) == 0
    assert Image.open(tmp_path / "cat-x2.png").size == (96, 80)


@pytest.mark.usefixtures("here")
def test_arms_rates_and_seeds_and_going_on(
    shown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convfold.studies.sr.study.write_models", lambda *_: dict.fromkeys(["plain", "doconv"], "none"))
    out = tmp_path / "sr"
    asked = ("--blocks", "doconv", "--seeds", 2, "--learning-rate", "1e-3,4e-3", "--scale", 3, "--degrade", "noise")
    assert train(shown, out, *asked) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["runs"]) == 8
    assert summary["settings"]["kind"] == "noise"
    assert "--block doconv --scale 3 --degrade noise --steps 4" in summary["command"]
    for one in summary["comparisons"]:
        runs = {(r["name"], r["seed"]): [row[1] for row in r["test"]] for r in summary["runs"]}
        for seed, difference in enumerate(one["differences"]):
            mine, theirs = runs[f"doconv@{one['rate']:g}", seed], runs[f"plain@{one['plain_rate']:g}", seed]
            assert difference == pytest.approx(sum(mine) / len(mine) - sum(theirs) / len(theirs), abs=1e-12)
    assert all(run["certificate"]["equal"] for run in summary["runs"])
    starts = [run["start"] for run in summary["runs"] if run["name"].startswith("doconv")]
    assert all(start["equal"] for start in starts)
    said(capsys)

    assert train(shown, out, *asked) == 2
    assert "there are runs here already. --resume goes on with them" in said(capsys)
    assert train(shown, out, *asked, "--resume", "--steps", 5, "--width", 6) == 2
    assert "begun with other settings: got width 4 -> 6; steps 4 -> 5. Ask for the same" in said(capsys)
    log = (out / "runs.jsonl").read_bytes()
    leftover = out / "checkpoints" / ".plain-0.001-seed0-123.safetensors"
    leftover.write_bytes(b"half of a file that a kill cut off")
    assert train(shown, out, *asked, "--resume") == 0
    assert "Resuming: 8 finished runs are taken from the log." in said(capsys)
    assert (out / "runs.jsonl").read_bytes() == log
    assert not leftover.exists()
    assert json.loads((out / "summary.json").read_text()) == summary
    (out / "settings.json").write_text("{")
    assert train(shown, out, *asked, "--resume") == 2
    assert "the settings of the runs here cannot be read" in said(capsys)
    (out / "settings.json").write_text("[]")
    assert train(shown, out, *asked, "--resume") == 2
    assert "begun with other settings: got no settings" in said(capsys)


def job(shown: Path, checkpoint: Path, steps: int = 4, rate: float = 2e-3) -> SrJob:
    settings = Settings(2, "bicubic", 4, 2, SrRecipe(steps, 2, 12), str(shown), "fail", fingerprint(from_folder(shown)))
    return SrJob(Run("doconv", rate), 0, settings, checkpoint, True)


def test_a_run_killed_between_checkpoints_goes_on_to_the_same_bits(
    shown: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convfold.studies.sr.runs.EVERY", 2)
    whole = job(shown, tmp_path / "whole.safetensors", 7).run(lambda _: None)

    class Killed(BaseException):
        pass

    def kill(step: int) -> None:
        if step == 4:
            raise Killed

    stopped = job(shown, tmp_path / "run.safetensors", 7)
    with pytest.raises(Killed):
        stopped.run(kill)
    told: list[int] = []
    again = stopped.run(told.append)
    assert told == [6], "it went on after step 4"
    assert again["weights"] == whole["weights"]
    assert (again["test"], again["losses"]) == (whole["test"], whole["losses"])
    (tmp_path / "weights.safetensors").write_bytes(again["weights"])
    assert all(torch.isfinite(t).all() for t in load_file(tmp_path / "weights.safetensors").values())


def test_a_loss_that_is_not_finite_keeps_the_weights_before_it(shown: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run.safetensors"
    with pytest.raises(
        ConvfoldError, match=r"the loss is no longer finite.*The weights before it are in .*run.safetensors"
    ):
        job(shown, checkpoint, rate=1e30).run(lambda _: None)
    kept = load_file(checkpoint)
    assert len(kept["losses"]) >= 1
    assert all(math.isfinite(value) for value in kept["losses"].tolist())


def test_bad_input_is_one_sentence(shown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    mixed = folder(tmp_path / "mixed", 5)
    (mixed / "x.png").write_bytes(b"x")
    (tmp_path / "narrow").mkdir()
    save(tmp_path / "narrow" / "one.png", picture("one", 40, 90))
    cases: list[tuple[Path, tuple[object, ...], str]] = [
        (shown, ("--block", "doconf"), "Did you mean doconv"),
        (shown, ("--block", "mixconv"), "it cannot start from a given kernel"),
        (shown, ("--scale", 1), "no bicubic degradation at this scale: got 1, expected 2 to 8"),
        (shown, ("--degrade", "fog"), "there is no such degradation: got 'fog'"),
        (shown, ("--seeds", 0), "--seeds: it takes at least one: got 0"),
        (shown, ("--learning-rate", "fast"), "--learning-rate: this is no learning rate: got 'fast'"),
        (shown, ("--learning-rate", ","), "--learning-rate: there is no learning rate"),
        (shown, ("--learning-rate", "-1"), "a learning rate is positive: got -1"),
        (shown, ("--patch", 21), "this picture is smaller than a patch: got 40x48, expected at least 42x42 pixels"),
        (tmp_path / "nowhere", (), "there is no such folder of pictures"),
        (tmp_path / "empty", (), "there is no picture in it"),
        (mixed, (), "x.png: this is no picture that can be read"),
        (
            tmp_path / "narrow",
            (),
            "one.png (middle): this picture is too small to be judged: got 40x18, expected",
        ),
        (mixed, ("--bad-pictures", "drop"), "--bad-pictures: this is no choice: got 'drop'"),
    ]
    for place, more, sentence in cases:
        assert train(place, tmp_path / "out", *more) == 2, sentence
        assert sentence in said(capsys)
        assert not (tmp_path / "out" / "settings.json").exists()


def test_missing_packages_are_named_before_any_work(
    shown: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convfold.studies.asked.find_spec", lambda name: None if name in ("skimage", "onnx") else name)
    assert train(shown, tmp_path / "out") == 2
    assert "convfold train sr: packages are missing: got no skimage, onnx. pip install 'convfold[" in said(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("here")
def test_skipped_files_are_counted_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convfold.studies.sr.study.write_models", lambda *_: {"plain": "none"})
    mixed = folder(tmp_path / "mixed", 5)
    (mixed / "x.png").write_bytes(b"x")
    console = Console(record=True, width=200, file=(tmp_path / "said").open("w"))
    options = Options(
        (), pictures=str(mixed), bad_pictures="skip", out=tmp_path / "sr", width=4, depth=2, recipe=RECIPE
    )
    results = train_sr(options, console)
    text = " ".join(console.export_text().split())
    assert "1 file is skipped:" in text
    assert "x.png: this is no picture" in text
    assert "1 file was skipped: " in (tmp_path / "sr" / "report.html").read_text()
    assert len(results.skipped) == 1
    with pytest.raises(InvalidArgument, match="--workers: it takes at least one"):
        train_sr(Options(workers=0), console)


def results(gains: dict[tuple[str, float], list[float]], rates: list[float]) -> Results:
    """Plain at 30 dB, and what is gained over it, as noted."""
    runs = {}
    for rate in rates:
        for arm in ("plain", "doconv"):
            for seed in range(4):
                value = 30 + (gains[arm, rate][seed] if (arm, rate) in gains else 0.0)
                rows = [("cat", value, 0.9), ("dog", value, 0.9)]
                runs[Run(arm, rate).name, seed] = {"validate": rows, "test": rows, "start": None}
    settings = Settings(2, "bicubic", 8, 4, SrRecipe(), None, "fail", "")
    parts = {"train": ["a"], "validate": ["b"], "test": ["cat", "dog"]}
    return Results(
        ["plain", "doconv"], rates, [0, 1, 2, 3], settings, parts, (), runs, [("cat", 29.0, 0.8)], {}, {}, "", {}
    )


def test_words_follow_the_figures() -> None:
    clear = results({("doconv", 0.001): [0.2, 0.21, 0.19, 0.2]}, [0.001])
    assert "doconv +0.20 dB at 0.001 (a gain)" in headline(clear)
    assert "plain network is 1.00 dB above bicubic" in headline(clear)
    below = results({("plain", 0.001): [-1.05] * 4}, [0.001])
    assert "plain network is 0.050 dB below bicubic" in headline(below)
    assert verdicts(clear)[0].startswith("doconv, learning rate 0.001: a gain. +0.20 dB over plain, 95% interval +0.19")
    assert "4 of 4 seeds above plain" in verdicts(clear)[0]
    assert "One learning rate was tried" in limits(clear)[-1]
    worse = results({("doconv", 0.001): [-0.2, -0.21, -0.19, -0.2]}, [0.001])
    assert "doconv −0.20 dB at 0.001 (a loss)" in headline(worse)
    unsure = results({("doconv", 0.001): [0.2, -0.21, 0.19, -0.2]}, [0.001])
    assert "(not resolved)" in headline(unsure)
    assert "not resolved" in verdicts(unsure)[0]
    # A block that gains only where plain's own rate is too low does not gain with each at its best.
    low = {("plain", 0.001): [-0.5, -0.52, -0.49, -0.5], ("doconv", 0.004): [0.01, -0.01, 0.012, -0.011]}
    two = results(low, [0.001, 0.004])
    assert two.best == {"plain": 0.004, "doconv": 0.004}
    assert "doconv +0.50 dB at 0.001 (a gain), +0.000 dB at 0.004 (not resolved)." in headline(two)
    assert "With every arm at its own best rate: doconv +0.000 dB at 0.004 (not resolved)." in headline(two)
    assert any("lies at an end of those tried" in sentence for sentence in limits(two))
    # The comparison at the best rates is one of those before, and is corrected as one.
    assert two.at_best[0].psnr.adjusted == two.at_equal_rates[1].psnr.adjusted
    assert two.at_equal_rates[0].psnr.adjusted == pytest.approx(2 * two.at_equal_rates[0].psnr.p)
    assert (gap(0.05), gap(-0.5)) == ("+0.050", "−0.50")


def test_a_curve_stands_at_the_steps_it_was_averaged_over() -> None:
    for steps in (1, 7, 40, 79, 2000, 2010):
        losses = [float(step) for step in range(1, steps + 1)]
        points = _thinned(losses)
        assert len(points) <= 40
        assert len(points) == -(-steps // stretch(steps))
        # The mean of the steps up to the first point, and of what is left at the last.
        assert points[0] == (1 + stretch(steps)) / 2
        assert points[-1] == (stretch(steps) * (len(points) - 1) + 1 + steps) / 2


def test_settings_know_their_runs_and_pictures() -> None:
    settings = Settings(2, "bicubic", 8, 4, SrRecipe(), None, "fail", "abc")
    assert settings.of("ecb@0.004")["learning_rate"] == 0.004
    assert settings.of("ecb@fast") == settings.of("ecb") == settings.of("ecb@0.0040") == {}
    assert settings.of("ecb@0.004") != settings.of("ecb@0.002")
    assert fingerprint(bundled()) == fingerprint(bundled()) != fingerprint(bundled(3))
    assert Options(("ecb", "acnet"), seeds=8).command == "convfold train sr --block ecb,acnet --seeds 8"
