"""A training goes on to the bit where it was, keeps what it reached, and says what is wrong."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.training import TINY, pictures

pytest.importorskip("sklearn")

from convfold.errors import ConvfoldError, FileProblem, InvalidArgument, InvalidType
from convfold.train import Session, Settings, World, learner
from convfold.train.images import Part

SHORT = Settings("digits", TINY, epochs=3, batch_size=128)


class Killed(BaseException):
    """Ends a training as no error of its own would."""


def run(settings: Settings, out: Path, *, kill: tuple[int, int] | None = None, **more: Any) -> dict[str, Tensor]:
    """Train, to the end or killed in that epoch after that step; the weights that would be shipped."""
    session = Session(settings, out, **more)

    def on_step(done: int, of: int) -> None:
        if kill == (session.epoch, done):
            raise Killed

    try:
        session.train(on_step=on_step)
        return {name: value.clone() for name, value in session.shipped().state_dict().items()}
    except Killed:
        return {}
    finally:
        session.close()


def elsewhere(self: World, action: Callable[[], object]) -> object:
    """`World.agree` as a process other than the first leaves it: without a word."""
    try:
        return action()
    except ConvfoldError:
        sys.exit(2)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and bool(a) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"expand": "dbb", "ema": 0.9, "label_smoothing": 0.1},
        {"expand": "doconv", "optimiser": "adamw", "accumulate": 2, "channels_last": True},
        {"model": "support.training:dropping", "augment": "shift", "flip": True},
        {"precision": "bf16", "size": 12, "augment": "crop"},
    ],
    ids=["sgd", "dbb+ema", "doconv+adamw+accumulate", "dropout+augment", "bf16+crop"],
)
def test_a_resumed_training_is_the_uninterrupted_one(tmp_path: Path, more: dict[str, Any]) -> None:
    settings = replace(SHORT, **more)
    whole = run(settings, tmp_path / "whole")
    for resume, kill in ((False, (1, 3)), (True, (2, 1))):
        assert run(settings, tmp_path / "parts", kill=kill, resume=resume) == {}
    assert same(run(settings, tmp_path / "parts", resume=True), whole)
    logs = [[json.loads(line) for line in (tmp_path / name / "metrics.jsonl").open()] for name in ("whole", "parts")]
    for log in logs:
        for record in log:
            del record["seconds"], record["images_per_second"]
    assert logs[0] == logs[1]
    assert [record["epoch"] for record in logs[0]] == [1, 2, 3]


def test_another_seed_is_another_network(tmp_path: Path) -> None:
    assert not same(run(SHORT, tmp_path / "a"), run(replace(SHORT, seed=1), tmp_path / "b"))


def test_readers_beside_change_nothing(tmp_path: Path) -> None:
    settings = replace(SHORT, epochs=1, augment="shift")
    assert same(run(settings, tmp_path / "a"), run(settings, tmp_path / "b", workers=1))


def test_parts_of_a_step_add_up(tmp_path: Path) -> None:
    """Without batch statistics, one step in four parts is the step."""
    settings = replace(SHORT, model="support.training:linear", epochs=1)
    one, four = run(settings, tmp_path / "a"), run(replace(settings, accumulate=4), tmp_path / "b")
    assert all(torch.allclose(one[name], four[name], rtol=1e-4, atol=1e-6) for name in one)


def test_what_was_trained_is_found_and_not_trained_over(tmp_path: Path) -> None:
    run(SHORT, tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(InvalidArgument, match=r"a training is here already: got checkpoint.safetensors\. --resume"):
        Session(SHORT, tmp_path)
    told: list[str] = []
    run(SHORT, tmp_path, resume=True, tell=told.append)
    assert told == ["resumed after epoch 3 of 3"]
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("log", ["", '{"epoch": 1}\n{"epoch": 2}\n{"epo'], ids=["behind", "ahead"])
def test_the_log_is_that_of_the_checkpoint(tmp_path: Path, log: str) -> None:
    """A kill may fall between the two, or inside a line."""
    run(SHORT, tmp_path, kill=(1, 1))
    (tmp_path / "metrics.jsonl").write_text(log)
    Session(SHORT, tmp_path, resume=True).close()
    (record,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert (record["epoch"], "train_loss" in record) == (1, True)


def test_a_resume_without_a_checkpoint_begins(tmp_path: Path) -> None:
    run(SHORT, tmp_path, kill=(0, 2))
    told: list[str] = []
    weights = run(SHORT, tmp_path, resume=True, tell=told.append)
    assert told == [f"there is no checkpoint in {tmp_path} yet: the training begins"]
    assert same(weights, run(SHORT, tmp_path / "other"))


def test_a_resume_with_other_settings_prints_the_difference(tmp_path: Path) -> None:
    run(SHORT, tmp_path, kill=(1, 1))
    other = replace(SHORT, epochs=5, learning_rate=0.1, expand="dbb")
    sentence = "begun with other settings: epochs 3 -> 5; learning rate 0.05 -> 0.1; expand None -> dbb. Repeat"
    with pytest.raises(InvalidArgument, match=sentence):
        Session(other, tmp_path, resume=True)
    with pytest.raises(InvalidArgument, match=r"data digits \w+, 0 left out -> digits \w+, 0 left out"):
        Session(replace(SHORT, split_seed=1), tmp_path, resume=True)


@pytest.mark.parametrize(
    "more", [{"precision": "fp16"}, {"channels": 3}, {"epochs": 1, "batch_size": 10, "accumulate": 3}]
)
def test_bad_input_is_said_by_the_first_process_alone(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "agree", elsewhere)
    with pytest.raises(SystemExit):
        Session(replace(SHORT, **more), tmp_path)


def test_processes_of_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(self: World, value: Any) -> list[Any]:
        return [value, value | {"seed": 7} if isinstance(value, dict) else value]

    monkeypatch.setattr(World, "gather", gather)
    sentence = "process 1: the processes were started with other settings: got seed 0 -> 7, expected the same command"
    with pytest.raises(InvalidArgument, match=sentence):
        Session(SHORT, tmp_path)


def test_a_checkpoint_of_another_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(SHORT, tmp_path, kill=(1, 1))
    monkeypatch.setattr("support.training.tiny", lambda num_classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    with pytest.raises(
        FileProblem, match=r"checkpoint.safetensors: these weights are of another model: got none missing, 8"
    ):
        Session(SHORT, tmp_path, resume=True)


def test_other_versions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(SHORT, tmp_path, kill=(1, 1))
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    told: list[str] = []
    Session(SHORT, tmp_path, resume=True, tell=told.append).close()
    assert told[0].startswith("not all is as it was when the training was begun, last bits may differ: machine ")


def spoil_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is not a number from that step on."""
    count: Iterator[int] = iter(range(10**6))
    plain = learner.F.cross_entropy

    def spoilt(*args: Any, **kwargs: Any) -> Tensor:
        return plain(*args, **kwargs) * (float("nan") if next(count) >= steps else 1)

    monkeypatch.setattr(learner.F, "cross_entropy", spoilt)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(SHORT, tmp_path, kill=(1, 1))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with monkeypatch.context() as spoilt:
        spoil_after(4, spoilt)
        sentence = (
            "epoch 2, step 5 of 7: the loss is no longer finite: got nan, expected a finite loss. "
            "The checkpoint after epoch 1 is kept; a lower --learning-rate than 0.05 in another --out may do"
        )
        with pytest.raises(ConvfoldError, match=sentence):
            run(SHORT, tmp_path, resume=True)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    assert same(run(SHORT, tmp_path, resume=True), run(SHORT, tmp_path / "other"))


def test_weights_that_the_last_step_spoils_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(SHORT, tmp_path)

    def spoil(done: int, of: int) -> None:
        if done == of:
            with torch.no_grad():
                session.learner.core[0].weight.fill_(float("inf"))

    with pytest.raises(ConvfoldError, match=r"epoch 1, after step 7 of 7: weights are no longer finite: got 0.weight"):
        session.train(on_step=spoil)
    session.close()
    assert not (tmp_path / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("what", ["loss", "weights"])
def test_what_is_not_finite_is_said_by_the_first_process_alone(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(SHORT, tmp_path)
    monkeypatch.setattr(World, "agree", elsewhere)
    if what == "loss":
        spoil_after(4, monkeypatch)
    else:
        monkeypatch.setattr(session.learner, "_step", lambda *_: session.learner.core[0].weight.data.fill_(math.inf))
    with pytest.raises(SystemExit):
        session.train()
    session.close()


def test_an_average_leaves_whole_numbers_alone(tmp_path: Path) -> None:
    weights = run(replace(SHORT, model="support.training:indexed", ema=0.9), tmp_path)
    assert torch.equal(weights["places"], torch.arange(100))


def test_more_processes_than_images_to_test_on_test_each_once(tmp_path: Path) -> None:
    session = Session(SHORT, tmp_path)
    session.close()
    few = Part(session.images.test.labels[:3], 1, session.images.test.stored[:3])
    alone = session.learner.predictions(session.learner.core, few)
    shares = []
    for rank in range(5):
        session.learner.world = World(rank, 5)
        shares.append(session.learner.predictions(session.learner.core, few))
    assert [len(share) for share in shares] == [1, 1, 1, 0, 0]
    assert torch.equal(torch.cat(shares), alone)


def test_a_model_with_two_outputs_in_training_has_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InvalidType, match="in training the model gives more than scores: got tuple"):
        Session(replace(SHORT, model="support.training:twofold"), tmp_path)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_spoilt_while_training_has_a_sentence(tmp_path: Path, workers: int) -> None:
    pytest.importorskip("PIL")
    settings = Settings(str(pictures(tmp_path / "data")), "support.training:coloured", 1, batch_size=4)
    session = Session(settings, tmp_path / "out", workers=workers)
    for path in session.images.train.files:
        path.write_bytes(b"spoilt")
    with pytest.raises(FileProblem) as caught:
        session.train()
    session.close()
    assert re.fullmatch(r"\S+png: this is no picture that can be read \([^()]+\)\.", str(caught.value))
