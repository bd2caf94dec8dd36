"""One run of each kind: what it logs, what it trains on, and what becomes of one that diverges."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

pytest.importorskip("sklearn")

from convfold.errors import ConvfoldError, InvalidArgument, UnknownName
from convfold.studies.compare.blocks import run as module
from convfold.studies.compare.blocks.run import (
    Run,
    RunJob,
    arm_of,
    checked_tasks,
    make_task,
    ranking_jobs,
    tuning_jobs,
)
from convfold.studies.compare.blocks.tasks import SETTINGS, Digits, TaskSettings, quick
from convfold.studies.compare.contest import choose_rate
from convfold.studies.compare.contest_data import parted_digits

TINY = {task: replace(quick(of), length=1, width=4) for task, of in SETTINGS.items()}


def made(task: str, arm: str, seed: int = 1, rate: float = 0.1) -> dict[str, object]:
    return RunJob(Run(task, arm, rate, False), seed, TINY[task]).run(lambda _: None)


def test_a_run_is_started_equal_folded_and_counted() -> None:
    plain, block = made("digits", "plain", 0), made("digits", "repvgg", 0)
    json.dumps({key: value for key, value in block.items() if key != "weights"}, allow_nan=False)
    assert block["started"]["equal"]  # type: ignore[index]
    assert block["folded"]["equal"]  # type: ignore[index]
    assert block["deployed"] == plain["deployed"]
    assert block["initial_loss"] == pytest.approx(plain["initial_loss"], rel=1e-5)
    assert block["deviations"] == pytest.approx(plain["deviations"], rel=1e-4)
    assert isinstance(block["weights"], bytes)
    assert "weights" not in made("digits", "plain", 1)
    assert block["value"] == pytest.approx(100 * block["details"]["wrong"] / block["details"]["test_images"])  # type: ignore[index]
    assert len(block["train_loss"]) == 1  # type: ignore[arg-type]


def test_a_run_gives_the_same_each_time_and_arms_differ() -> None:
    first, again, other = made("digits-200", "doconv"), made("digits-200", "doconv"), made("digits-200", "plain")
    assert first["train_loss"] == again["train_loss"]
    assert first["value"] == again["value"]
    assert first["train_loss"] != other["train_loss"]


def test_few_images_are_drawn_anew_for_each_seed_and_never_tested_on() -> None:
    of = make_task("digits-200", SETTINGS["digits-200"])
    assert isinstance(of, Digits)
    train = {tuple(row) for row in parted_digits(False).train_x.flatten(1).tolist()}
    first, other = of.data(0, False), of.data(1, False)
    assert len(first.train_x) == len(other.train_x) == 200
    assert all(tuple(row) in train for row in first.train_x.flatten(1).tolist())
    assert not torch.equal(first.train_x, other.train_x)
    assert torch.equal(first.train_x, of.data(0, False).train_x)
    deciding = {tuple(row) for row in of.data(0, True).test_x.flatten(1).tolist()}
    assert deciding <= train
    assert not deciding & {tuple(row) for row in of.data(0, True).train_x.flatten(1).tolist()}


def test_seeds_that_tune_never_rank() -> None:
    tuning = tuning_jobs(("deep", "plain"), SETTINGS)
    ranking = ranking_jobs(
        [("deep", "plain"), ("sr", "plain")], {("deep", "plain"): 0.1, ("sr", "plain"): 0.1}, SETTINGS
    )
    assert not {job.seed for job in tuning} & {job.seed for job in ranking}
    assert {job.what.rate for job in tuning} == set(SETTINGS["deep"].rates)
    counts = {task: sum(job.what.task == task for job in ranking) for task in ("deep", "sr")}
    assert counts == {"deep": SETTINGS["deep"].seeds, "sr": SETTINGS["sr"].seeds}
    assert [job.what.task for job in ranking[:2]] == ["deep", "sr"]  # seed by seed


def test_a_rate_that_diverges_has_no_loss_and_a_ranked_run_counts_as_it_started() -> None:
    job = RunJob(Run("deep", "plain-he", 1e30, True), 1000, TINY["deep"])
    found = job.run(lambda _: None)
    assert found["validation_loss"] is None
    assert "no longer finite" in found["diverged"]
    ranked = made("deep", "plain-he", 1, 1e30)
    assert "no longer finite" in str(ranked["diverged"])
    assert ranked["train_loss"] == [ranked["initial_loss"]]
    of = make_task("deep", TINY["deep"])
    network = RunJob(Run("deep", "plain-he", 1e30, False), 1, TINY["deep"]).start(arm_of("deep", "plain-he"))
    assert ranked["value"] == of.measured(network)[0]


def test_weights_that_are_not_finite_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    job = RunJob(Run("digits", "plain", 0.1, False), 0, TINY["digits"])
    real = Digits.fit

    def broken(self: Digits, network: torch.nn.Module, *rest: object) -> object:
        found = real(self, network, *rest)  # type: ignore[arg-type]
        with torch.no_grad():
            next(network.parameters()).fill_(float("nan"))
        return found

    monkeypatch.setattr(module.Digits, "fit", broken)
    assert "a weight is no longer finite" in job.run(lambda _: None)["diverged"]


@pytest.mark.parametrize("tuning", [True, False])
def test_weights_too_large_to_compute_with_are_noticed(tuning: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step is seen by no loss of training."""
    real = Digits.fit

    def broken(self: Digits, network: torch.nn.Module, *rest: object) -> object:
        found = real(self, network, *rest)  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.fill_(3e38)
        return found

    monkeypatch.setattr(module.Digits, "fit", broken)
    found = RunJob(Run("deep", "plain", 0.1, tuning), 0, TINY["deep"]).run(lambda _: None)
    assert "the loss is no longer finite" in found["diverged"]
    assert not tuning or found["validation_loss"] is None
    found.pop("weights", None)
    json.dumps(found, allow_nan=False)


def test_a_rate_that_diverged_once_goes_before_one_that_always_did() -> None:
    assert choose_rate({0.1: [2.0, None], 0.2: [None, None]}) == 0.1
    assert choose_rate({0.1: [None, None], 0.2: [None, 2.0]}) == 0.2
    assert choose_rate({0.1: [-20.0, -21.0], 0.2: [None, -30.0]}) == 0.1
    assert choose_rate({0.2: [None], 0.1: [None]}) == 0.1


def test_names_come_back_and_others_are_no_runs() -> None:
    for run in (Run("sr", "ecb-own", 0.005, True), Run("deep", "plain-as-dbb", 0.04, False)):
        assert Run.parse(run.name) == run
    for name in ("digits/static/rank@0.1", "sr/dbb-own/rank@0.1", "letters/plain/tune@0.1", "plain"):
        assert Run.parse(name) is None


def test_what_a_result_depends_on_is_logged_with_it() -> None:
    def of(settings: TaskSettings, arm: str = "plain", task: str = "digits") -> dict[str, object]:
        return Run(task, arm, 0.1, False).settings(settings)

    base = SETTINGS["digits"]
    assert of(base) == of(replace(base, seeds=3, rates=(0.5,), tuning_seeds=9))  # these change no single run
    for change in ({"length": 3}, {"batch_size": 7}, {"width": 5}, {"train_images": 10}):
        assert of(base) != of(replace(base, **change))  # type: ignore[arg-type]
    assert of(base) != of(base, "plain-sqrt3")
    assert of(base, "dbb") != of(base, "dbb-own")
    assert of(SETTINGS["deep"], "dbb", "deep")["from"] == "plain-he"


def test_unknown_tasks_are_a_sentence() -> None:
    with pytest.raises(UnknownName, match=r"--tasks: unknown task: got 'digit'.*Did you mean digits"):
        checked_tasks(["digit"])
    assert checked_tasks(["sr", "digits"]) == ["digits", "sr"]
    with pytest.raises(InvalidArgument, match="there is no task to compare on"):
        checked_tasks([])


def test_a_loss_that_is_not_finite_stops_training() -> None:
    network = make_task("digits", TINY["digits"]).plain(4)
    with pytest.raises(ConvfoldError, match="no longer finite"):
        make_task("digits", TINY["digits"]).fit(network, 1e30, 0, False, lambda _: None)


@pytest.mark.parametrize("arm", ["plain-as-ecb", "ecb"])
def test_super_resolution_is_measured_in_decibels(arm: str) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("PIL")
    found = made("sr", arm, 1, 0.001)
    values = found["details"]["psnr"].values()  # type: ignore[index]
    assert found["value"] == pytest.approx(sum(values) / len(values))
    assert 10 < found["value"] < 40  # type: ignore[operator]
    assert found["folded"]["equal"]  # type: ignore[index]
    job = RunJob(Run("sr", arm, 0.001, True), 1000, TINY["sr"])
    assert job.run(lambda _: None)["validation_loss"] < -10
