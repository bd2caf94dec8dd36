"""What the comparison says of constructed runs: the figures, and the sentences that they choose."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from typing import Any

import pytest

pytest.importorskip("scipy")
pytest.importorskip("sklearn")

from convfold.studies.compare.dynamic.arms import ARMS, STATIC, Run, Settings, label
from convfold.studies.compare.dynamic.results import Cost, Results
from convfold.studies.compare.dynamic.tasks import TASKS
from convfold.studies.compare.dynamic.words import against, annealing, headline, limits, verdicts
from convfold.studies.demo.cost import Latency
from convfold.studies.statistics import holm

IMAGES = 1000
SETTINGS = Settings(epochs=3, tuning_seeds=1)


def made(shifts: Mapping[tuple[str, str], float], seeds: int = 30, noise: float = 3.0) -> Results:
    """Errors of 2 % plus noise of a few images, and per task and arm so many per cent more."""
    draw = random.Random(3)
    runs: dict[tuple[str, int], dict[str, Any]] = {}
    for task in TASKS:
        for arm in ARMS:
            for seed in range(seeds):
                wrong = round(20 + IMAGES * shifts.get((task, arm), 0.0) / 100 + draw.gauss(0, noise))
                kind = ARMS[arm].kind
                routing = {"spread": 0.1, "inversion": 0.25} if kind not in ("static", "se", "wide") else None
                runs[Run(task, arm, 0.2, False).name, seed] = {
                    "initial_loss": 2.3,
                    "train_loss": [1.0 + draw.gauss(0, 0.1) + (arm == "dynamicconv"), 0.5, 0.1],
                    "test_error": [0.5, 0.1, wrong / IMAGES],
                    "wrong": wrong,
                    "test_images": IMAGES,
                    "routing": routing,
                    "correlation": {"a": 0.2 + draw.gauss(0, 0.01), "b": 0.4 - 0.1 * (arm == "dynet"), "c": None},
                }
    latency = Latency(1.0, 1.5, 1.4, 1.6)
    return Results(
        tasks=TASKS,
        arms=list(ARMS),
        seeds=seeds,
        settings=SETTINGS,
        rates={(task, arm): 0.2 for task in TASKS for arm in ARMS},
        validation={(task, arm): {0.1: 0.3, 0.2: None} for task in TASKS for arm in ARMS},
        runs=runs,
        costs={arm: Cost(1000 * (4 if arm == "wide" else 1), 100, latency, latency) for arm in ARMS},
        control=(latency, latency),
        latency_batch=64,
        command="convfold compare dynamic",
        versions={"torch": "0"},
    )


@pytest.fixture(scope="module")
def results() -> Results:
    return made({("inverted", "dynet"): -1.0, ("inverted", "condconv"): 1.0})


def test_pairs_are_paired_by_seed_and_held_together_by_holm(results: Results) -> None:
    assert len(results.pairs) == 2 * math.comb(len(ARMS), 2)
    tested = list(results.pairs.values())
    corrected = holm([pair.difference.p for pair in tested if pair.difference.p is not None])
    assert [pair.difference.adjusted for pair in tested] == corrected
    pair = results.pair("inverted", "dynet", STATIC)
    differences = [a - b for a, b in zip(results.errors("inverted", "dynet"), results.errors("inverted", STATIC))]  # noqa: B905
    mean = sum(differences) / len(differences)
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (len(differences) - 1))
    assert pair.seen_from("dynet") == pytest.approx(mean, rel=1e-12)
    assert pair.seen_from(STATIC) == pytest.approx(-mean, rel=1e-12)
    assert abs(pair.effect.value or 0) == pytest.approx(abs(mean) / deviation, rel=1e-12)
    assert results.ranked("inverted")[0] == "dynet"
    assert results.ranked("inverted")[-1] == "condconv"


def test_sentences_tell_resolved_from_unresolved(results: Results) -> None:
    said = against(results, "inverted", ("condconv", "dynamicconv", "dynet"), STATIC)
    assert "lower for DyNet (−" in said
    assert "higher for CondConv (+" in said
    assert "not resolved for DynamicConv (τ 30→1) (differences beyond" in said
    assert headline(results) == (
        "On digits: no dynamic convolution is resolved from static. "
        "On digits with random inversion: DyNet resolved below static's error; CondConv resolved above it."
    )
    told = " ".join(verdicts(results, "inverted"))
    assert "DyNet has the lowest mean error" in told
    assert "resolved from every other arm" in told
    assert "methods is resolved: DynamicConv (τ 30→1) below CondConv, DyNet below CondConv and DyNet below" in told
    assert "the rest is not" not in told
    told = " ".join(verdicts(results, "digits"))
    assert "so this is no ranking of these" in told
    assert "no difference is resolved" in told
    assert "0 of 28 pairs are resolved" in told


def test_what_is_excluded_is_the_far_end_of_the_widest_interval(results: Results) -> None:
    said = against(results, "digits", ("condconv", "dynet"), STATIC)
    ends = []
    for arm in ("condconv", "dynet"):
        found = results.pair("digits", arm, STATIC).difference
        assert found.low is not None
        assert found.high is not None
        ends += [abs(found.low), abs(found.high)]
    assert f"beyond {max(ends):.2f} points" in said


def test_annealing_is_judged_by_its_own_test(results: Results) -> None:
    said = annealing(results)
    assert len(said) == 2
    assert all("+1.0" in text or "+0.9" in text for text in said)
    assert all("(higher, p < 0.001" in text for text in said)
    assert all("test error at the end is not resolved" in text for text in said)


def test_correlations_are_compared_with_static_by_seed(results: Results) -> None:
    found = results.correlations["digits", "dynet"]
    assert found.mean == pytest.approx(-0.05, abs=0.01)
    assert found.significant
    assert not results.correlations["digits", "condconv"].significant


def test_few_seeds_are_no_result() -> None:
    assert headline(made({}, seeds=2)).startswith("A look and no result: 2 seeds, where 30 are meant.")
    one = made({}, seeds=1)
    assert headline(one) == "One seed: nothing can be said about which of these is better."
    assert verdicts(one, "digits") == ["There is one seed, so there is no spread and no test."]
    assert annealing(one) == []


def test_a_rate_at_the_end_of_what_was_tried_is_said(results: Results) -> None:
    assert not any("least or the largest" in text for text in limits(results))
    results = made({}, seeds=2)
    object.__setattr__(results, "rates", {**results.rates, ("digits", "se"): max(SETTINGS.rates)})
    assert any("largest that was tried for SE gate on digits:" in text for text in limits(results))


@pytest.mark.parametrize("seeds", [1, 2, 30])
def test_the_page_and_the_summary_hold_everything(seeds: int) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from convfold.report import render
    from convfold.studies.compare.dynamic.page import page
    from convfold.studies.compare.dynamic.table import tables

    results = made({("inverted", "dynet"): -1.0}, seeds)
    text = render(page(results))
    assert text.count("<svg") == 2 * (2 + 4)
    assert text.count("★") - 1 == 2 * sum(pair.difference.significant for pair in results.pairs.values())
    for arm in ARMS:
        assert label(arm) in text
    assert "nan" not in text.replace("finance", "")
    told = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    assert len(told["pairs"]) == 56
    assert [table.row_count for table in tables(results)] == [len(ARMS)] * 2


def test_runs_without_any_difference_are_not_resolved() -> None:
    results = made({}, seeds=4, noise=0.0)
    assert not any(pair.difference.significant for pair in results.pairs.values())
    assert "0 of 28 pairs" in " ".join(verdicts(results, "digits"))
