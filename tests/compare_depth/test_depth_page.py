"""What the depth study says of constructed runs: the figures, and the sentences that they choose."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("scipy")
pytest.importorskip("sklearn")

from convfold.studies.compare.contest import tuning_seeds
from convfold.studies.compare.depth.arms import NETWORK, Settings, arms_of, network_run
from convfold.studies.compare.depth.descent import recorded
from convfold.studies.compare.depth.problems import TASKS
from convfold.studies.compare.depth.results import SOLVED, Results
from convfold.studies.compare.depth.words import (
    agreement,
    factor,
    groups,
    headline,
    limits,
    network_verdicts,
    said,
    verdict,
)
from convfold.studies.statistics import holm

SETTINGS = Settings(rates=(0.25, 0.5, 1.0), steps=1000, traced_steps=1000, epochs=3, tuning_seeds=2)
SLOW, FAST, OPEN = "matrix-p2-k10-small", "vector-p4-k10-small", "digits-unit"


def made(seeds: int = 20, ratio: Mapping[str, float] | None = None, error: float = 0.0, missed: int = 0) -> Results:
    """Depth N takes `ratio`^(N-1) times the steps of depth 1, with noise; the first `missed` of depth 4 get nowhere."""
    draw = random.Random(1)
    ratio = {SLOW: 2.0, FAST: 0.5, OPEN: 1.0} if ratio is None else ratio
    runs: dict[tuple[str, int], Mapping[str, Any]] = {}
    records = recorded(SETTINGS.traced_steps)
    for task, times in ratio.items():
        for arm in arms_of(task):
            depth = int(arm[-1])
            for seed in [*range(seeds), *tuning_seeds(2)]:
                steps = max(2, round(60 * times ** (depth - 1) * math.exp(draw.gauss(0, 0.1))))
                nowhere = depth == 4 and seed < missed
                counts = [None, None if nowhere else 2 * steps, None if nowhere else steps]
                trace: dict[str, Any] = {
                    "reached": [10 * depth, None if nowhere else steps],
                    "curve": [math.exp(-step / steps) for step in records],
                    "imbalance": 0.01,
                }
                theory = {"reached": [9 * depth, steps * 1.1], "curve": trace["curve"][:20], "deviation": 0.02 * depth}
                if seed < SETTINGS.predicted_seeds:
                    trace["predicted"] = theory
                if TASKS[task].kind == "digits":
                    trace |= {"wrong": 40, "test_images": 1000}
                runs[f"{task}/{arm}/sweep", seed] = {
                    "steps": counts,
                    "final": [0.5, 1e-20 if depth == 2 else 1e-3 * math.exp(draw.gauss(0, 0.1)), None],
                    "initial_loss": 1.0,
                    "gain": 1.0,
                    "best_rate": 1.0,
                    "equal_rate": 0.01,
                    "equal": trace,
                    "best": trace,
                    **({"limit": 2 / depth} if task == SLOW else {}),
                }
    rates = dict.fromkeys(arms_of(NETWORK), 0.1)
    for arm in arms_of(NETWORK):
        for seed in range(seeds):
            wrong = round(50 + 10 * draw.gauss(0, 0.3) + 10 * error * (arm == "depth4"))
            runs[network_run(arm, 0.1, False).name, seed] = {
                "initial_loss": 2.3,
                "train_loss": [1.0, 0.5, 0.2],
                "test_error": [0.5, 0.2, wrong / 1000],
                "test_images": 1000,
                "final_loss": (0.1 if arm == "depth2" else 0.2) * math.exp(draw.gauss(0, 0.05)),
                "wrong": wrong,
                "folded_apart": 1e-6,
                "folded_parameters": 3738,
            }
    validation = {arm: {0.1: 0.3, 0.2: None} for arm in rates}
    tasks = [*ratio, NETWORK]
    return Results(tasks, seeds, SETTINGS, runs, rates, validation, "convfold compare depth", {"torch": "0"})


@pytest.fixture(scope="module")
def results() -> Results:
    return made(error=2.0)


def test_ratios_are_paired_by_seed_and_held_together_by_holm(results: Results) -> None:
    assert len(results.comparisons) == 3 * 3 * 4 + 4 * 2
    tested = [one.difference for one in results.comparisons.values()]
    corrected = holm([pair.p for pair in tested if pair.p is not None])
    assert [pair.adjusted for pair in tested] == corrected
    one = results.comparisons[SLOW, "depth3", "best"]
    assert one.sign == 1
    assert one.ratio == pytest.approx(4, rel=0.1)
    assert one.interval is not None
    assert one.interval[0] < 4.1 < one.interval[1] * 1.2
    pairs = zip(results.values(SLOW, "depth3", "best"), results.values(SLOW, "depth1", "best"), strict=True)
    assert math.log2(one.ratio) == pytest.approx(sum(a - b for a, b in pairs) / 20, rel=1e-12)
    assert results.comparisons[FAST, "depth2", "best"].sign == -1
    assert results.comparisons[OPEN, "depth2", "best"].sign == 0
    assert results.comparisons[SLOW, "depth2", "equal"].ratio == pytest.approx(2)


def test_what_got_nowhere_counts_with_the_budget_and_is_counted() -> None:
    results = made(missed=3)
    one = results.comparisons[FAST, "depth4", "best"]
    assert one.reached == (17, 20)
    assert results.values(FAST, "depth4", "best")[:3] == [math.log2(SETTINGS.flat_steps)] * 3
    assert results.values(SLOW, "depth4", "best")[0] == math.log2(1000)
    assert results.values(OPEN, "depth4", "best")[0] == math.log2(300)


def test_rates_shared_by_problems_come_from_other_seeds(results: Results) -> None:
    assert set(results.shared.values()) == {1.0}
    assert results.steps(SLOW, "depth1", "shared") == results.steps(SLOW, "depth1", "best")


def test_a_solved_problem_is_not_compared_below_rounding(results: Results) -> None:
    assert set(results.values(SLOW, "depth2", "final")) == {math.log2(SOLVED)}
    assert results.comparisons[SLOW, "depth2", "final"].sign == -1


def test_sentences_tell_faster_from_slower_from_unresolved(results: Results) -> None:
    assert headline(results) == (
        "Each at its best learning rate, a linear chain of depth 2 to 4 needs fewer steps than one layer in 3 of 9 "
        "comparisons, more in 3, and 3 are unresolved. Fewer are needed only under: fourth power, small start, one "
        f"output (3 of 3); {_factors(results, FAST)} of the steps there. In a small CNN on digits the "
        "test error is higher for depth 4, beyond chance."
    )
    assert list(groups(results)) == [
        "squared error, small start, 4 outputs",
        "fourth power, small start, one output",
        "digits, softmax",
    ]
    assert verdict(results, "squared error, small start, 4 outputs", "best") == (
        f"Squared error, small start, 4 outputs, 3 comparisons with depth 1: more in all ({_factors(results, SLOW)})."
    )
    assert verdict(results, "digits, softmax", "best") == (
        "Digits, softmax, 3 comparisons with depth 1: unresolved in all."
    )
    text = " ".join(network_verdicts(results))
    assert "Depth 2: last training loss lower (×0.49" in text
    assert "Depth 4: test error higher (+" in text
    assert "Depth 3: test error not resolved from depth 1's (" in text


def _factors(results: Results, task: str) -> str:
    found = [results.comparisons[task, arm, "best"].ratio for arm in arms_of(task)[1:]]
    return f"{factor(min(found))} to {factor(max(found))}"


def test_nothing_faster_is_not_said_to_be() -> None:
    text = headline(made(ratio={SLOW: 2.0}))
    assert "in 0 of 3 comparisons, more in 3, and 0 are unresolved." in text
    assert "needed only" not in text
    assert "not resolved from depth 1's for any chain" in text


def test_few_seeds_are_no_result() -> None:
    assert headline(made(seeds=3)).startswith("A look and no result: 3 seeds, where 20 are meant.")
    one = made(seeds=1)
    assert headline(one) == "One seed: nothing can be said about which depth is better."
    assert network_verdicts(one) == ["There is one seed, so there is no spread and no test."]


def test_agreement_is_what_was_measured_over_what_was_predicted(results: Results) -> None:
    text = agreement(results, "equal")
    assert "differ from the flow's by 11% in the median of 96 runs and 11% at most" in text
    assert "off by 5% of its way in the median, 8% at most (" in text
    assert "by 9.1% in the median" in agreement(results, "best")
    assert agreement(made(ratio={}), "best") == "No run has both a prediction and a measurement."


def test_best_rates_at_the_end_of_the_grid_are_counted(results: Results) -> None:
    assert limits(results)[0] == "Of 240 best learning rates 240 are the least or the largest that were tried."
    assert "The network's rate" not in " ".join(limits(results))
    edge = replace(results, settings=replace(SETTINGS, network_rates=(0.1, 0.2)))
    assert "The network's rate is the least or the largest that was tried for depth 1, depth 2" in limits(edge)[1]


@pytest.mark.parametrize(("value", "text"), [(0.5, "×0.50"), (12.3, "×12"), (0.0123, "×0.01"), (9.94, "×9.94")])
def test_factors_are_short(value: float, text: str) -> None:
    assert factor(value) == text


@pytest.mark.parametrize("seeds", [1, 20])
def test_the_page_and_the_summary_hold_everything(seeds: int) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    from convfold.report import render
    from convfold.studies.compare.depth.page import page
    from convfold.studies.compare.depth.table import tables

    results = made(seeds, error=2.0)
    text = render(page(results))
    assert text.count("<svg") == 2 + 2 + 3 + 3 + 1
    for task in results.chains:
        assert TASKS[task].label in text
    assert "nan" not in text
    assert "3,738 parameters each" in text
    told = json.loads(json.dumps(results.to_dict(), allow_nan=False))
    assert len(told["comparisons"]) == 44
    assert told["chains"][SLOW]["arms"]["depth2"]["limit"] == pytest.approx([1.0, 1.0])
    assert [table.row_count for table in tables(results)] == [3, 5]
    told = said(results)
    assert told["headline"] == [headline(results)]
    assert [len(told[key]) for key in ("best", "shared", "equal", "theory", "network")] == [
        3,
        3,
        3,
        2,
        8 if seeds > 1 else 1,
    ]
    only = made(seeds, ratio={})
    assert list(said(only)) == ["headline", "network"]
    assert "Every comparison" not in render(page(only))
