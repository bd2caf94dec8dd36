"""The report's sentences follow the figures: each outcome has its own."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("scipy")

from convfold.studies.demo.arms import CONTROL, PLAIN, Settings
from convfold.studies.demo.cost import Latency
from convfold.studies.demo.results import Network, Results
from convfold.studies.demo.words import accuracy, beginning, headline, limits, sameness, speed
from convfold.studies.words import p_text, signed
from convfold.train import Recipe

NOISE = [0.00, 0.02, -0.01, 0.01, -0.02, 0.00, 0.01, -0.01]
HOLDS = {"equal": True, "error": 1e-7, "bound": 1e-5}
COUNTED = {"macs": 100, "params": 10, "weight_bytes": 40}


def run(error: float, loss: float, seed: int, arm: str) -> dict[str, Any]:
    wrong = round(1000 * error) + [3, 7, 5, 4, 6, 5, 4, 6][seed]
    epoch = {"train_loss": loss + NOISE[seed], "train_error": 0.1, "test_error": error}
    return {
        "epochs": [epoch] * 4,
        "certificate": HOLDS,
        "start": HOLDS,
        "wrong_wide": wrong,
        # A pinch of noise that differs between arms, so that no paired difference is constant.
        "wrong_folded": wrong + (seed * len(arm)) % 3,
        "changed_predictions": 0,
        "test_images": 1000,
    }


def network(ratio: float = 1.0) -> Network:
    latency = Latency(1.0, ratio, ratio, ratio)
    onnx = {"differing": {7: 0, 1000: 0}, "images": 1000, "largest_score_difference": 0.0}
    return Network("feature mode", {**COUNTED, "macs": 300}, COUNTED, latency, latency, onnx, None)


def results(errors: dict[str, float] | None = None, losses: dict[str, float] | None = None, seeds: int = 8) -> Results:
    arms = [PLAIN, CONTROL, "dbb", "repvgg"]
    found = {
        (arm, seed): run((errors or {}).get(arm, 0.02), (losses or {}).get(arm, 1.0), (seed * (i + 1)) % 8, arm)
        for i, arm in enumerate(arms)
        for seed in range(seeds)
    }
    return Results(
        arms=arms,
        seeds=seeds,
        settings=Settings(Recipe(epochs=4)),
        runs=found,
        networks={arm: network() for arm in arms},
        control_latency=Latency(1.0, 1.0, 0.97, 1.03),
        latency_batch=64,
        command="convfold demo",
        versions={},
        workers=2,
    )


def test_no_difference_is_said_to_be_none() -> None:
    found = results()
    assert "no block changed the test error beyond chance" in headline(found)
    said = " ".join(accuracy(found))
    assert "No block differs significantly" in said
    assert "could hide" in said
    assert "lowered" not in headline(found)


def test_a_better_and_a_worse_block_are_named() -> None:
    found = results(errors={"dbb": 0.005, "repvgg": 0.08})
    assert "dbb lowered and repvgg raised" in headline(found)
    said = " ".join(accuracy(found))
    assert "dbb ends with a lower test error" in said
    assert "repvgg ends with a higher test error" in said
    assert "No block differs" not in said


def test_one_seed_says_that_it_shows_nothing() -> None:
    found = results(seeds=1)
    assert "nothing can be said about accuracy" in headline(found)
    assert "chance alone" in " ".join(accuracy(found))
    assert beginning(found) == []


def test_a_fast_start_matched_by_the_control_is_put_down_to_scale() -> None:
    said = " ".join(beginning(results(losses={"dbb": 0.7, CONTROL: 0.5})))
    assert "dbb" in said
    assert "matched or exceeded by the control" in said
    assert "initial scale" in said
    assert "repvgg" not in said


def test_a_fast_start_beyond_the_control_is_not() -> None:
    said = " ".join(beginning(results(losses={"dbb": 0.4, CONTROL: 0.7})))
    assert "lower than plain's and than the control's" in said
    assert "matched" not in said


def test_no_fast_start_but_a_fast_control() -> None:
    said = " ".join(beginning(results(losses={CONTROL: 0.7})))
    assert "No block has a significantly lower training loss" in said
    assert "The control does" in said
    assert re.search(r"is 0\.(29|30)\d lower", said)


def test_a_slower_start_is_not_called_faster() -> None:
    said = " ".join(beginning(results(losses={"dbb": 1.5})))
    assert "No block has a significantly lower training loss" in said


def test_a_broken_certificate_is_the_first_thing_said() -> None:
    found = results()
    found.runs["dbb", 3]["certificate"] = {"equal": False, "error": 1.0, "bound": 1e-5}
    assert not found.all_equal
    assert "31 of 32" in headline(found)
    assert "Certificates that do not hold: 1." in limits(found)[0]


def test_changed_and_differing_predictions_are_said() -> None:
    found = results()
    assert sameness(found) == []
    found.runs["dbb", 0]["changed_predictions"] = 2
    found.networks["dbb"].onnx["differing"][7] = 3
    assert not found.all_equal
    said = " ".join(sameness(found))
    assert "2 of 32000 test predictions differ" in said
    assert "3 predictions of ONNX Runtime differ" in said


def test_latency_is_judged_by_the_control() -> None:
    found = results()
    assert "within the spread of the control" in speed(found)[0]
    found.networks["dbb"] = network(1.2)
    assert speed(found)[0].startswith("dbb: the folded network's time lies outside")
    found.networks["repvgg"] = replace(network(), folded={**COUNTED, "macs": 101})
    assert speed(found)[0].startswith("repvgg: folded to another number of MACs")


def test_the_recipe_in_the_words_is_the_recipe_used() -> None:
    found = replace(results(), settings=Settings(Recipe(epochs=4, learning_rate=0.123)))
    assert any("0.123" in sentence for sentence in limits(found))


@pytest.mark.parametrize(("p", "text"), [(None, "–"), (0.0004, "< 0.001"), (0.0212, "0.021"), (0.5, "0.50")])
def test_p_values(p: float | None, text: str) -> None:
    assert p_text(p) == text


def test_signs() -> None:
    assert (signed(0.123), signed(-0.123)) == ("+0.12", "−0.12")
