"""What decides a training is checked at once, and its differences are told."""

from __future__ import annotations

from typing import Any

import pytest

from convfold.errors import InvalidArgument
from convfold.train import Settings
from convfold.train.settings import differences


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"epochs": 0}, "--epochs: epochs is impossible: got 0, expected 1 or more"),
        ({"batch_size": 0}, "--batch-size: batch size is impossible"),
        ({"accumulate": 0}, "--accumulate: accumulate is impossible"),
        ({"warmup_epochs": -1}, "--warmup-epochs: warmup epochs is impossible"),
        ({"seed": -1}, "--seed: seed is impossible"),
        ({"size": 0}, "--size: size is impossible"),
        ({"weight_decay": -1.0}, "--weight-decay: weight decay is impossible"),
        ({"learning_rate": 0.0}, "--learning-rate: learning rate is impossible: got 0.0, expected a number above 0"),
        ({"learning_rate": float("nan")}, "--learning-rate"),
        ({"weight_decay": float("inf")}, "weight decay is impossible: got inf, expected 0 or more"),
        ({"warmup_epochs": float("nan")}, "--warmup-epochs"),
        ({"seed": 2**63}, f"--seed: seed is impossible: got {2**63}, expected {2**63 - 1} or less"),
        ({"split_seed": -1}, "--split-seed: split seed is impossible: got -1, expected 0 or more"),
        ({"split_seed": 2**32}, "--split-seed: split seed is impossible: got 4294967296, expected 4294967295 or less"),
        ({"ema": 1.0}, "--ema: ema is impossible: got 1.0, expected 0 <= value < 1"),
        ({"label_smoothing": -0.1}, "--label-smoothing"),
        ({"test_fraction": 1.0}, "--test-fraction: test fraction is impossible"),
        ({"channels": 2}, r"--channels: channels is impossible: got 2, expected 1 \(grey\) or 3 \(colours\)"),
        ({"optimiser": "lion"}, "--optimiser: optimiser is impossible: got 'lion', expected one of sgd, adamw"),
        ({"precision": "fp8"}, "--precision"),
        ({"augment": "mixup"}, "--augment"),
        ({"kernel_mode": "both"}, "--kernel-mode"),
        ({"bad_pictures": "ignore"}, "--bad-pictures"),
    ],
)
def test_impossible_values_have_a_sentence(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        Settings("digits", "a:b", **{"epochs": 1, **more})


def test_each_optimiser_has_its_own_rate() -> None:
    assert (Settings("digits", "a:b", 1).rate, Settings("digits", "a:b", 1, optimiser="adamw").rate) == (0.05, 0.001)
    assert Settings("digits", "a:b", 1, learning_rate=0.3, weight_decay=0.0).decay == 0


def test_a_default_that_is_named_is_no_difference() -> None:
    plain, named = Settings("digits", "a:b", 1), Settings("digits", "a:b", 1, learning_rate=0.05)
    assert differences(plain.to_dict(), named.to_dict()) == []


def test_differences_name_both_sides() -> None:
    begun, asked = Settings("digits", "a:b", 2).to_dict(), Settings("digits", "a:b", 3, batch_size=32).to_dict()
    assert differences(begun, asked) == ["epochs 2 -> 3", "batch size 64 -> 32"]
    assert differences({"a": 1}, {"b": 2}) == ["b nothing -> 2", "a 1 -> nothing"]
