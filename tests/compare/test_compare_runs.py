"""Logs, shards and processes of a comparison: what is done once, and what is done again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

from rich.console import Console

from convfold.errors import ConvfoldError, FileProblem, InvalidArgument
from convfold.studies.compare import runs as compare_runs
from convfold.studies.compare.dynamic.arms import ARMS, Run, RunJob, Settings, choose_rate
from convfold.studies.compare.dynamic.tasks import TASKS
from convfold.studies.compare.runs import Runs, Shard, do
from convfold.studies.workers import Workers

TINY = Settings(epochs=1, batch_size=256, width=4)
JOBS = [RunJob(Run("digits", "static", 0.1, False), seed, TINY) for seed in range(3)]


def settings(name: str) -> dict[str, Any]:
    run = Run.parse(name)
    return {} if run is None else run.settings(TINY)


def quiet() -> Console:
    return Console(file=StringIO())


@pytest.mark.parametrize("count", [1, 3, 16])
def test_shards_take_every_contest_once(count: int) -> None:
    contests = list(product(TASKS, ARMS))
    parts = [Shard(index, count).part(contests) for index in range(1, count + 1)]
    assert sorted(contest for part in parts for contest in part) == sorted(contests)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "a/b", "1/2/3", "-1/2"])
def test_other_texts_are_no_shard(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"--shard: this is no shard.*1 <= i <= n"):
        Shard.parse(text)
    assert Shard.parse("2/4") == Shard(2, 4)


def test_finished_runs_are_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(tmp_path, settings)
    assert do(JOBS[:2], runs, quiet(), "", most=1) == 2
    runs.close()
    before = (tmp_path / "runs.jsonl").read_bytes()
    runs = Runs(tmp_path, settings)
    assert [job.seed for job in runs.missing(JOBS)] == [2]
    monkeypatch.setattr(compare_runs, "Workers", lambda count: pytest.fail("there is nothing to do"))
    assert do(JOBS[:2], runs, quiet(), "") == 0
    runs.close()
    assert (tmp_path / "runs.jsonl").read_bytes() == before


class Mortal(Workers):
    """Workers of which the first is killed when the first job is done."""

    def run(self, jobs: Sequence[Any]) -> Iterator[Any]:
        for message in super().run(jobs):
            yield message
            if message.kind == "done":
                pid = self.processes[0].pid
                assert pid
                os.kill(pid, signal.SIGKILL)


def test_what_a_killed_worker_had_in_hand_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(tmp_path, settings)
    with monkeypatch.context() as patch:
        patch.setattr(compare_runs, "Workers", Mortal)
        with pytest.raises(ConvfoldError, match=r"ended by itself.*resume"):
            do(JOBS, runs, quiet(), "", most=1)
    runs.close()
    log = tmp_path / "runs.jsonl"
    (first,) = log.read_text().splitlines()
    with log.open("a") as cut:
        cut.write(first[:40])  # what a kill in the middle of a line leaves
    runs = Runs(tmp_path, settings)
    assert runs.damaged == 1
    assert do(JOBS, runs, quiet(), "", most=1) == 2
    found = {key: result["wrong"] for key, result in runs.results.items()}
    runs.close()
    straight = Runs(tmp_path / "straight", settings)
    do(JOBS, straight, quiet(), "", most=1)
    assert {key: result["wrong"] for key, result in straight.results.items()} == found
    straight.close()


def test_runs_under_other_settings_are_kept_and_not_used(tmp_path: Path) -> None:
    line = {"name": JOBS[0].name, "seed": 0, "settings": {**settings(JOBS[0].name), "epochs": 9}, "result": {}}
    text = json.dumps(line) + "\n" + json.dumps({**line, "name": "elsewhere"}) + "\n"
    (tmp_path / "runs.jsonl").write_text(text)
    runs = Runs(tmp_path, settings)
    assert runs.results == {}
    assert runs.foreign == 2
    runs.close()
    assert (tmp_path / "runs.jsonl").read_text() == text


def test_shards_write_logs_of_their_own_which_are_collected(tmp_path: Path) -> None:
    one, two = Runs(tmp_path, settings, Shard(1, 2)), Runs(tmp_path, settings, Shard(2, 2))
    one.keep(JOBS[0], {"wrong": 1})
    two.keep(JOBS[1], {"wrong": 2, "weights": b"content"})
    assert two.results == {(JOBS[1].name, 1): {"wrong": 2}}
    assert two.weights(JOBS[1]).read_bytes() == b"content"
    with pytest.raises(FileProblem, match="another run is writing here"):
        Runs(tmp_path, settings)
    one.close()
    two.close()
    whole = Runs(tmp_path, settings)
    assert {key: result["wrong"] for key, result in whole.results.items()} == {
        (JOBS[0].name, 0): 1,
        (JOBS[1].name, 1): 2,
    }
    assert whole.missing(JOBS) == [JOBS[2]]
    whole.close()


def test_names_of_runs_come_back() -> None:
    for run in (Run("inverted", "dynet", 0.05, True), Run("digits", "dynamicconv-cold", 0.4, False)):
        assert Run.parse(run.name) == run
    for name in ("plain", "digits/static/rank", "digits/none/rank@0.1", "letters/static/tune@0.1", "a/b/c@d"):
        assert Run.parse(name) is None


def test_the_rate_is_the_least_loss_the_lower_of_equals_and_never_one_that_diverged() -> None:
    assert choose_rate({0.1: [1.0, 2.0], 0.2: [1.0, 1.0], 0.4: [3.0, 0.5]}) == 0.2
    assert choose_rate({0.4: [1.0], 0.1: [1.0]}) == 0.1
    assert choose_rate({0.1: [5.0, 5.0], 0.2: [0.1, None]}) == 0.1


def test_a_rate_that_diverges_is_told_and_does_not_stop_the_study() -> None:
    # A step that overflows: the loss is not finite any more.
    job = RunJob(Run("digits", "static", 1e30, True), 1000, TINY)
    found = job.run(lambda _: None)
    assert found["validation_loss"] is None
    assert "no longer finite" in found["diverged"]
    with pytest.raises(ConvfoldError, match="no longer finite"):
        RunJob(Run("digits", "static", 1e30, False), 0, TINY).run(lambda _: None)


def test_annealing_cools_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from convfold.studies.compare.dynamic import arms

    seen: list[Any] = []
    real = arms.TemperatureSchedule
    monkeypatch.setattr(arms, "TemperatureSchedule", lambda *a: seen.append(real(*a)) or seen[-1])
    tiny = Settings(epochs=3, batch_size=512, width=4)
    RunJob(Run("digits", "dynamicconv", 0.1, False), 0, tiny).run(lambda _: None)
    assert [s.temperature for s in seen] == [1.0]
    assert (seen[0].start, seen[0].steps, seen[0].done) == (30.0, 1, 3)
    RunJob(Run("digits", "dynamicconv-cold", 0.1, False), 0, tiny).run(lambda _: None)
    assert len(seen) == 1
