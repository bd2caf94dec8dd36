"""Verdicts and the report on constructed runs: what is called real, initial scale, not told apart, unresolved."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("scipy")
pytest.importorskip("sklearn")

from convfold.studies.compare.blocks.arms import BLOCKS, LEFT_OUT, arms_of
from convfold.studies.compare.blocks.results import EARLY, END, Results, StepTimes
from convfold.studies.compare.blocks.run import Run
from convfold.studies.compare.blocks.tasks import SETTINGS
from convfold.studies.compare.blocks.verdicts import verdict
from convfold.studies.compare.blocks.words import headline, limits, sentences
from convfold.studies.statistics import holm
from convfold.studies.timing import Ratio

Shifts = Mapping[tuple[str, str], float]
TASKS = ("digits", "deep")


def made(
    shifts: Shifts, early: Shifts | None = None, blocks: tuple[str, ...] = ("dbb", "doconv"), seeds: int = 20,
    tasks: tuple[str, ...] = TASKS, noise: float = 0.3,
) -> Results:  # fmt: skip
    """Values around 5 with noise, and per task and arm so much more; the same for the loss at the beginning."""
    draw = random.Random(1)
    runs: dict[tuple[str, int], dict[str, Any]] = {}
    settings = {task: replace(SETTINGS[task], seeds=seeds, rates=(0.1, 0.3, 1.0)) for task in tasks}
    arms = {task: arms_of(task, blocks) for task in tasks}
    rates = {(task, arm): 0.3 for task in tasks for arm in arms[task]}
    certificate = {"equal": True, "error": 1e-7, "bound": 1e-6}
    for task in tasks:
        for arm in arms[task]:
            for seed in range(seeds):
                loss = 1 + (early or {}).get((task, arm), 0.0) + draw.gauss(0, 0.01)
                runs[Run(task, arm, 0.3, False).name, seed] = {
                    "initial_loss": 2.3,
                    "deviations": [1.0, 0.25],
                    "value": 5 + shifts.get((task, arm), 0.0) + draw.gauss(0, noise),
                    "train_loss": [loss, 0.2, 0.1, 0.05],
                    "deployed": {"macs": 1000, "params": 100},
                    "folded": certificate,
                    **({"started": certificate} if arms[task][arm].start == "equal" else {}),
                }
    ratio = Ratio(1.5, 1.4, 1.6, 9)
    times = {task: StepTimes(dict.fromkeys(blocks, ratio), Ratio(1.0, 0.9, 1.1, 9), 0.002) for task in tasks}
    validation = {entry: {0.1: 0.4, 0.3: 0.3, 1.0: None} for entry in rates}
    return Results(tasks, blocks, settings, rates, validation, runs, times, "convfold compare blocks", {"torch": "0"})


def kind(results: Results, task: str, arm: str, question: str = END) -> str:
    found = verdict(results, question, task, results.arm(task, arm))
    return f"{found.kind}{'' if found.kind == 'open' else ' better' if found.better else ' worse'}"


def test_what_plain_cannot_be_given_by_scale_is_real() -> None:
    results = made({("digits", "doconv"): -1.5, ("deep", "dbb"): 1.0})
    assert kind(results, "digits", "doconv") == "real better"
    assert kind(results, "deep", "dbb") == "real worse"
    assert kind(results, "digits", "dbb") == "open"
    (real, open_) = sentences(results, END, "digits")
    assert real.startswith("Real: doconv is better than plain by −1.4")
    assert "(p < 0.001), and than plain (γ = √3) too" in real
    assert "Unresolved: dbb and dbb (own start). Differences beyond 0." in open_
    assert "Digits: doconv (−1.4" in headline(results)
    assert "points) better. Deep without BN: dbb from He (+1.0" in headline(results)


def test_what_a_control_shows_too_is_initial_scale() -> None:
    results = made({("digits", "dbb-own"): -1.0, ("digits", "plain-as-dbb"): -1.0})
    assert kind(results, "digits", "dbb-own") == "scale better"
    found = verdict(results, END, "digits", results.arm("digits", "dbb-own"))
    assert found.explained_by == ("plain-as-dbb",)
    (said,) = [text for text in sentences(results, END, "digits") if text.startswith("Initial scale")]
    assert "but plain at dbb's scale differs from plain by −" in said
    assert "1 effect had by initial scale alone" in headline(results)


def test_a_control_that_does_more_than_the_block_explains_it_too() -> None:
    results = made(
        {("deep", "dbb-own"): -1.0, ("deep", "plain-he"): -3.0, ("deep", "dbb"): -3.0, ("deep", "doconv"): -3}
    )
    assert kind(results, "deep", "dbb-own") == "scale better"
    assert verdict(results, END, "deep", results.arm("deep", "dbb-own")).explained_by == ("plain-he",)


def test_a_block_is_not_real_because_a_control_is_not_resolved_from_plain() -> None:
    """Halfway between plain and the block: the control is level with the block, and explains nothing."""
    results = made({("digits", "dbb-own"): -0.9, ("digits", "plain-as-dbb"): -0.45}, noise=0.5)
    assert kind(results, "digits", "dbb-own") == "unclear better"
    (said,) = [text for text in sentences(results, END, "digits") if text.startswith("Not told apart")]
    assert "not resolved beyond plain at dbb's scale" in said
    assert "stays open" in said


def test_harm_is_not_explained_by_another_scale_that_harms_too() -> None:
    results = made({("deep", "dbb"): 4.0, ("deep", "plain-dirac"): 4.0})
    assert kind(results, "deep", "dbb") == "real worse"
    assert "both start at one scale" in sentences(results, END, "deep")[0]
    own = made({("digits", "dbb-own"): 1.0, ("digits", "plain-sqrt3"): 1.0})
    assert kind(own, "digits", "dbb-own") == "real worse"
    own = made({("digits", "dbb-own"): 1.0, ("digits", "plain-as-dbb"): 1.0})
    assert kind(own, "digits", "dbb-own") == "scale worse"


def test_in_decibels_more_is_better() -> None:
    results = made({("sr", "doconv"): 1.0}, tasks=("sr",))
    assert kind(results, "sr", "doconv") == "real better"
    assert "doconv is better than plain by +" in sentences(results, END, "sr")[0]
    assert " dB" in headline(results)


def test_the_beginning_is_judged_by_itself() -> None:
    early = {("digits", "dbb-own"): -0.2, ("digits", "plain-as-dbb"): -0.3, ("digits", "plain-sqrt3"): -0.1}
    results = made({}, early)
    assert kind(results, "digits", "dbb-own") == "open"
    assert kind(results, "digits", "dbb-own", EARLY) == "scale better"


def test_families_are_corrected_together() -> None:
    results = made({("digits", "doconv"): -0.3})
    for family, count in ((results.claims, 6), (results.scales, 15)):
        for question in (END, EARLY):
            pairs = list(family[question].values())
            assert len(pairs) == count
            assert [p.difference.adjusted for p in pairs] == holm([p.difference.p or 0.0 for p in pairs])
    assert ("deep", "plain-he", "plain-he") not in results.scales[END]
    assert ("deep", "plain-dirac", "plain-he") in results.scales[END]


def test_few_seeds_are_no_result() -> None:
    assert headline(made({}, seeds=3)).startswith("A look and no result")
    one = made({("digits", "doconv"): -9.0}, seeds=1)
    assert headline(one).startswith("One seed")
    assert kind(one, "digits", "doconv") == "open"
    assert sentences(one, END, "digits") == ["There is one seed, so there is no spread and no test."]


def test_limits_name_edges_what_diverged_and_what_is_left_out() -> None:
    results = made({})
    text = " ".join(limits(results))
    assert "more might help" not in text
    assert "Plain (Dirac) has the identity in its kernels" in text
    assert "Dirac" not in " ".join(limits(made({}, tasks=("digits",))))
    assert "diverged" not in text
    assert all(name in text for name in LEFT_OUT)
    assert "Left out by the call: acnet, ecb" in text
    rates = {**results.rates, ("digits", "dbb"): 1.0}
    runs = dict(results.runs)
    for seed in range(20):
        runs[Run("digits", "dbb", 1.0, False).name, seed] = runs[Run("digits", "dbb", 0.3, False).name, seed]
    key = (Run("digits", "plain", 0.3, False).name, 4)
    runs[key] = {**runs[key], "diverged": "the loss is no longer finite"}
    text = " ".join(limits(replace(results, rates=rates, runs=runs)))
    assert "least or the largest that was tried for dbb on digits: more might help" in text
    assert "1 of plain on digits" in text


def test_what_is_not_certified_or_costs_more_is_told() -> None:
    results = made({})
    assert results.unequal == []
    runs = dict(results.runs)
    first, second = (Run("digits", "dbb", 0.3, False).name, 2), (Run("deep", "doconv", 0.3, False).name, 1)
    runs[first] = {**runs[first], "folded": {"equal": False, "error": 1.0, "bound": 0.1}}
    runs[second] = {**runs[second], "deployed": {"macs": 1001, "params": 100}}
    assert replace(results, runs=runs).unequal == ["digits/dbb, seed 2", "deep/doconv, seed 1"]


@pytest.mark.parametrize(("seeds", "blocks"), [(1, ("doconv",)), (20, BLOCKS)])
def test_the_page_the_tables_and_the_summary_hold_everything(seeds: int, blocks: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from convfold.report import render
    from convfold.studies.compare.blocks.page import page
    from convfold.studies.compare.blocks.table import tables

    results = made({("digits", blocks[-1]): -1.0}, blocks=blocks, seeds=seeds, tasks=("digits", "sr"))
    text = render(page(results))
    assert text.count("<svg") == 2 * 2 * 2
    for task in results.tasks:
        for arm in results.arms[task].values():
            assert arm.label.replace("'", "&#39;") in text
    assert "nan" not in text.replace("finance", "")
    told = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    assert len(told["claims"][END]) == sum(len(results.block_arms(task)) for task in results.tasks)
    assert [table.row_count for table in tables(results)] == [len(results.arms[task]) for task in results.tasks]


def test_a_control_explains_only_what_it_is_resolved_to_do_itself() -> None:
    """Block and control differ from plain by the same amounts, p = 0.005: enough among 6 tests, not among 15."""
    results = made({})
    runs = dict(results.runs)
    seeds = range(20)
    for arm, tilt in (("dbb-own", 0.0), ("plain-as-dbb", 1e-3)):
        for seed in seeds:
            # Mean -1 and deviation 1.4 over the seeds: t = 3.2.
            value = runs[Run("digits", "plain", 0.3, False).name, seed]["value"]
            shift = -1.0 + (1.4 if seed % 2 else -1.4) * (19 / 20) ** 0.5 + tilt * (seed % 3 - 1)
            key = (Run("digits", arm, 0.3, False).name, seed)
            runs[key] = {**runs[key], "value": value + shift}
    results = replace(results, runs=runs)
    control = results.scale(END, "digits", "plain-as-dbb", "plain").difference
    assert control.p is not None
    assert control.p < 0.01
    assert not control.significant
    assert kind(results, "digits", "dbb-own") == "unclear better"
