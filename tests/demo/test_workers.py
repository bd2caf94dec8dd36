"""Worker processes: results, failures, deaths."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

pytest.importorskip("sklearn")

from convfold.errors import ConvfoldError
from convfold.studies.demo.arms import Settings, TrainJob
from convfold.studies.workers import Workers
from convfold.train import Recipe

QUICKLY = Settings(Recipe(epochs=2, batch_size=256), width=4)


def test_jobs_are_done_told_of_and_failures_are_sentences() -> None:
    jobs = [TrainJob("plain", seed, QUICKLY, keep_weights=False) for seed in range(2)]
    diverging = TrainJob(
        "plain", 0, replace(QUICKLY, recipe=replace(QUICKLY.recipe, learning_rate=float("inf"))), keep_weights=False
    )
    with Workers(1) as workers:
        messages = list(workers.run(jobs))
        assert [(m.job, m.kind) for m in messages] == [(j, k) for j in (0, 1) for k in ("told", "told", "done")]
        assert messages[2].value["epochs"] != messages[5].value["epochs"]
        with pytest.raises(ConvfoldError, match=r"training plain, seed 0.*no longer finite"):
            list(workers.run([diverging]))


def test_a_worker_that_dies_is_an_error_at_once() -> None:
    job = TrainJob("plain", 0, Settings(Recipe(epochs=2000, batch_size=256), width=4), keep_weights=False)
    with Workers(1) as workers:
        messages = workers.run([job])
        assert next(messages).kind == "told"
        (process,) = workers.processes
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ConvfoldError, match=r"ended by itself \(exit code -9\).*resume"):
            list(messages)
