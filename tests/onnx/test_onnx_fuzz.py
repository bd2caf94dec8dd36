"""A share of the long run of `tests/fuzz_onnx.py`: damaged files end in a folded file or a sentence."""

from __future__ import annotations

from convfold.studies.workers import Workers
from support.onnx_fuzz import FuzzJob
from support.onnx_mutations import damaged

FILES = 60


def test_damaged_files_end_in_a_result_or_a_sentence() -> None:
    """In another process, as a library that crashed would take the tests with it."""
    seeds = range(1_000_000, 1_000_000 + FILES)
    outcomes = []
    with Workers(1) as workers:
        for message in workers.run([FuzzJob(seeds)]):
            if message.kind == "told" and not isinstance(message.value, int):
                outcomes.append(message.value)
    assert len(outcomes) == FILES
    assert [failure for _, failure in outcomes if failure] == []
    assert any(outcome == "folded" for outcome, _ in outcomes)
    assert any("refused" in outcome for outcome, _ in outcomes)


def test_the_same_seed_damages_the_same_way() -> None:
    assert [damaged(seed) for seed in range(20)] == [damaged(seed) for seed in range(20)]
