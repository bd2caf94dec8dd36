"""The log: what counts as a finished run, and what never mixes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convfold.errors import FileProblem
from convfold.files import remove_leftovers
from convfold.studies.runlog import RunLog

RESULT = {"wrong": 3, "losses": [0.5, 0.25]}


def settings(epochs: int) -> Any:
    return lambda name: {"epochs": epochs, "name": name, "pair": (1, 2)}


def written(path: Path, epochs: int = 2) -> None:
    log = RunLog(path, settings(epochs))
    log.add("plain", 0, RESULT)
    log.add("repvgg", 0, RESULT)
    log.close()


def test_what_was_logged_comes_back(tmp_path: Path) -> None:
    written(tmp_path / "log")
    log = RunLog(tmp_path / "log", settings(2))
    assert log.results == {("plain", 0): RESULT, ("repvgg", 0): RESULT}
    assert (log.foreign, log.damaged) == (0, 0)
    log.close()


def test_other_settings_are_counted_and_kept_but_not_used(tmp_path: Path) -> None:
    written(tmp_path / "log", epochs=2)
    before = (tmp_path / "log").read_bytes()
    log = RunLog(tmp_path / "log", settings(3))
    assert log.results == {}
    assert log.foreign == 2
    log.add("plain", 0, {"wrong": 9})
    log.close()
    assert (tmp_path / "log").read_bytes().startswith(before)
    again = RunLog(tmp_path / "log", settings(2))
    assert again.results["plain", 0] == RESULT
    again.close()


@pytest.mark.parametrize("cut", [1, 2, 20, 60])
def test_a_line_cut_anywhere_is_ignored_and_spoils_nothing_after_it(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "log"
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    log = RunLog(path, settings(2))
    # Cut by its last byte, the line end, a record is still whole.
    assert set(log.results) == ({("plain", 0), ("repvgg", 0)} if cut == 1 else {("plain", 0)})
    assert log.damaged == (0 if cut == 1 else 1)
    log.add("repvgg", 1, RESULT)
    log.close()
    again = RunLog(path, settings(2))
    assert ("repvgg", 1) in again.results
    again.close()


@pytest.mark.parametrize("line", ["[1, 2]", "{}", "null", '{"name": "plain"}', "\x00\xff"])
def test_lines_that_are_not_runs_are_counted(tmp_path: Path, line: str) -> None:
    (tmp_path / "log").write_bytes(line.encode("latin-1") + b"\n")
    log = RunLog(tmp_path / "log", settings(2))
    assert (log.results, log.damaged) == ({}, 1)
    log.close()


def test_two_runs_never_write_one_log(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "log", settings(2))
    with pytest.raises(FileProblem, match="another run is writing here"):
        RunLog(tmp_path / "log", settings(2))
    log.close()
    RunLog(tmp_path / "log", settings(2)).close()


def test_a_forgotten_run_is_to_be_done_again(tmp_path: Path) -> None:
    written(tmp_path / "log")
    log = RunLog(tmp_path / "log", settings(2))
    log.forget("plain", 0)
    log.forget("plain", 7)
    assert set(log.results) == {("repvgg", 0)}
    log.close()


def test_one_line_per_run(tmp_path: Path) -> None:
    written(tmp_path / "log")
    lines = (tmp_path / "log").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["plain", "repvgg"]


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".report-123.html").write_text("half")
    for mine in (".report-notes.html", "report-123.html", ".other-123.html", "report.html"):
        (tmp_path / mine).write_text("keep")
    remove_leftovers([tmp_path / "report.html"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".other-123.html",
        ".report-notes.html",
        "report-123.html",
        "report.html",
    ]
