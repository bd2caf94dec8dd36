"""Jobs of ``compare depth``: what a run logs, which rates are chosen, what names and settings mean."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

pytest.importorskip("scipy")
pytest.importorskip("sklearn")

from convfold.errors import UnknownName
from convfold.studies.compare.depth.arms import (
    NETWORK,
    QUICK_TASKS,
    Settings,
    arms_of,
    chosen_tasks,
    entries_of,
    network_run,
    quick,
    settings_of,
)
from convfold.studies.compare.depth.problems import INPUTS, SAMPLES, TASKS, Classification, Regression
from convfold.studies.compare.depth.runs import NetworkJob, SweepJob, shared_rate
from convfold.studies.compare.depth.study import compared_jobs, network_jobs, sweep_jobs

SMALL = replace(quick(Settings()), steps=60, flat_steps=60, traced_steps=60, predicted_seeds=1)


def silent(_: object) -> None:
    return None


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.kind != "digits"])
def test_problems_have_the_condition_the_norms_and_the_gradient_they_claim(name: str) -> None:
    task, problem = TASKS[name], TASKS[name].problem(4)
    assert isinstance(problem, Regression)
    moment = problem.inputs @ problem.inputs.T / problem.inputs.shape[1]
    eigenvalues = torch.linalg.eigvalsh(moment)
    assert float(eigenvalues[-1]) == pytest.approx(1, rel=1e-12)
    condition = 1 if task.kind == "targets" else task.condition
    assert float(eigenvalues[-1] / eigenvalues[0]) == pytest.approx(condition, rel=1e-10)
    rows = 4 if task.kind == "matrix" else 1
    assert problem.start.shape == (rows, INPUTS)
    assert float(problem.teacher.norm()) == pytest.approx(math.sqrt(rows), rel=1e-12)
    assert float(problem.start.norm()) == pytest.approx(task.scale * math.sqrt(rows), rel=1e-12)
    if task.kind == "targets":
        spread = problem.teacher.abs()
        assert float(spread.max() / spread.min()) == pytest.approx(task.condition, rel=1e-12)
    else:
        assert problem.inputs.shape == (INPUTS, SAMPLES)
    weight = problem.start.clone().requires_grad_()
    residual = (weight - problem.teacher) @ problem.inputs
    loss = (residual.abs() ** task.p).sum(0).mean() / task.p
    (slope,) = torch.autograd.grad(loss, weight)
    found, gradient = problem.loss_and_gradient(torch.stack([problem.start, problem.teacher]))
    assert float(found[0]) == pytest.approx(float(loss.detach()), rel=1e-12)
    assert float(found[1]) == 0
    assert (gradient[0] - slope).abs().max() < 1e-12 * slope.abs().max()
    if task.p == 2:
        assert (problem.curvature(problem.start - problem.teacher) - slope).abs().max() < 1e-12
    assert not torch.equal(TASKS[name].problem(5).teacher.abs(), problem.teacher.abs()) or task.kind == "targets"


def test_digits_have_the_gradient_of_cross_entropy_and_parts_of_their_own() -> None:
    problem, other = TASKS["digits-small"].problem(0), TASKS["digits-small"].problem(1)
    assert isinstance(problem, Classification)
    assert isinstance(other, Classification)
    assert problem.inputs.shape[1] + problem.test_inputs.shape[1] == 1797
    assert not torch.equal(problem.inputs, other.inputs)
    weight = problem.start.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy((weight @ problem.inputs).T, problem.labels)
    (slope,) = torch.autograd.grad(loss, weight)
    found, gradient = problem.loss_and_gradient(problem.start)
    assert float(found) == pytest.approx(float(loss.detach()), rel=1e-12)
    assert (gradient - slope).abs().max() < 1e-13
    scores = (problem.start @ problem.test_inputs).T
    assert problem.wrong(problem.start) == int((scores.argmax(1) != problem.test_labels).sum())


def test_a_sweep_finds_its_best_rate_and_stands_beside_the_flow() -> None:
    settings = replace(SMALL, rates=tuple(2.0**e for e in range(-6, 3)), traced_steps=200)
    job = SweepJob("vector-p2-k10-small", "depth2", 0, settings)
    found = json.loads(json.dumps(job.run(silent), allow_nan=False))
    reached = {rate: s for rate, s in zip(settings.rates, found["steps"], strict=True) if s is not None}
    assert reached
    assert found["best_rate"] == min(reached, key=lambda rate: (reached[rate], rate))
    assert found["best"]["reached"][1] == reached[found["best_rate"]]
    assert found["final"][-1] is None  # a rate of 4 is beyond 2 / eig
    assert found["limit"] > found["best_rate"]
    curve = found["equal"]["curve"]
    assert 1 - curve[1] == pytest.approx(settings.share, rel=0.1)
    theory = found["equal"]["predicted"]
    assert found["equal"]["reached"][0] == pytest.approx(theory["reached"][0], rel=0.05)
    assert theory["deviation"] < 0.05
    assert theory["deviation"] < found["best"]["predicted"]["deviation"]
    assert "predicted" not in replace(job, seed=1).run(silent)["equal"]
    tuned = replace(job, tuning=True).run(silent)
    assert tuned == {"steps": found["steps"], "final": found["final"]}


def test_all_depths_of_a_seed_begin_at_one_loss_and_fall_equally_at_an_equal_step() -> None:
    runs = [
        SweepJob("digits-unit", arm, 2, replace(SMALL, digits_steps=4)).run(silent) for arm in arms_of("digits-unit")
    ]
    assert len({round(run["initial_loss"], 10) for run in runs}) == 1
    assert next(run["gain"] for run in runs) == 1
    firsts = [1 - run["equal"]["curve"][1] for run in runs]
    assert firsts == pytest.approx([SMALL.share] * 4, rel=0.05)
    assert all(0 < run["best"]["wrong"] < run["best"]["test_images"] for run in runs)


def test_one_rate_for_all_is_the_one_that_misses_least_then_takes_fewest_steps_then_the_lower() -> None:
    rates = (1.0, 2.0, 4.0)

    def sweeps(*rows: tuple[int | None, ...]) -> dict[int, dict[str, object]]:
        return {seed: {"steps": list(row)} for seed, row in enumerate(rows)}

    assert shared_rate(sweeps((90, 10, 2), (90, 10, None)), rates, 100) == 1
    assert shared_rate(sweeps((10, 10, 50)), rates, 100) == 0
    assert shared_rate(sweeps((None, None, None)), rates, 100) == 0
    assert shared_rate(sweeps((4, 30, 50), (40, 3, 50)), rates, 100) == 1


def test_a_network_that_ranks_is_tested_folded() -> None:
    found = NetworkJob(network_run("depth3", 0.1, False), 0, SMALL).run(silent)
    assert len(found["train_loss"]) == SMALL.epochs
    assert found["final_loss"] < found["initial_loss"]
    assert found["folded_apart"] < 1e-4
    assert found["folded_parameters"] == 3738
    tuned = NetworkJob(network_run("expandnet", 0.1, True), 1000, SMALL).run(silent)
    assert set(tuned) == {"initial_loss", "validation_loss"}


def test_a_network_that_diverges_is_told_and_counts_at_chance() -> None:
    found = NetworkJob(network_run("depth2", 1e10, False), 0, SMALL).run(silent)
    assert "no longer finite" in found["diverged"]
    assert found["final_loss"] == found["initial_loss"]
    assert found["wrong"] > 0.8 * found["test_images"]
    assert NetworkJob(network_run("depth2", 1e10, True), 0, SMALL).run(silent)["validation_loss"] is None


@pytest.mark.parametrize("tuning", [True, False])
def test_a_last_step_that_breaks_the_network_has_diverged_too(tuning: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(model: torch.nn.Module, *_: object) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(3e38)

    monkeypatch.setattr("convfold.studies.compare.depth.runs.train", broken)
    found = NetworkJob(network_run("depth2", 0.1, tuning), 0, SMALL).run(silent)
    assert "no longer finite" in found["diverged"]
    json.dumps(found, allow_nan=False)


def test_tasks_are_chosen_by_names_and_patterns() -> None:
    assert chosen_tasks(None) == [*TASKS, NETWORK]
    assert chosen_tasks("network, digits-small") == ["digits-small", "network"]
    assert chosen_tasks("vector-*-small") == [f"vector-p{p}-k{k}-small" for p in (2, 4) for k in (10, 100)]
    assert len(chosen_tasks(QUICK_TASKS)) == 5
    with pytest.raises(
        UnknownName, match=r"--tasks: no task is called so: got 'digit', expected vector-p2-k10-small, "
    ):
        chosen_tasks("network,digit")


def test_every_job_has_a_name_with_settings_and_other_names_have_none() -> None:
    settings = Settings()
    entries = entries_of(chosen_tasks(None))
    rates = dict.fromkeys(arms_of(NETWORK), 0.1)
    tuning = [*sweep_jobs(entries, settings), *(job for arm in rates for job in network_jobs(arm, settings))]
    jobs = [*tuning, *compared_jobs(entries, rates, 2, settings)]
    assert len({(job.name, job.seed) for job in jobs}) == len(jobs)
    assert all(settings_of(name, settings) for name in {job.name for job in jobs})
    for name in (
        "",
        "plain",
        "network/depth9/rank@0.1",
        "network/depth1/rank",
        "digits-small/depth1/rank",
        "x/depth1/sweep",
    ):
        assert settings_of(name, settings) == {}
    name = "vector-p4-k10-small/depth2/sweep"
    assert settings_of(name, settings) != settings_of(name, replace(settings, flat_steps=7))
    assert settings_of(name, settings) == settings_of(name, replace(settings, steps=7, epochs=3))
