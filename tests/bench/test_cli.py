"""``convfold bench``: tables, the saved record, and what is refused before anything is measured."""

import json

import pytest

from convfold import cli
from convfold.cli import bench
from convfold.errors import InvalidArgument
from convfold.studies.bench.fold import FoldSetting
from convfold.studies.bench.train import TrainSetting


@pytest.fixture
def small(monkeypatch):
    # The allocator's setting would stay with the process that runs the tests.
    monkeypatch.setattr(bench, "steady_allocator", lambda: "as it is")
    monkeypatch.setattr(FoldSetting, "quick", classmethod(lambda cls: cls(4, 6, 1, 2)))
    monkeypatch.setattr(TrainSetting, "quick", classmethod(lambda cls: cls(1, 4, 6, 2, 2)))


@pytest.fixture
def idle(monkeypatch):
    """Fails the test when anything is measured."""

    def refuse(*args):
        raise AssertionError("measured")

    monkeypatch.setattr(bench, "bench_fold", refuse)
    monkeypatch.setattr(bench, "bench_train", refuse)


def test_fold_prints_and_saves(small, tmp_path, capsys):
    out = tmp_path / "new" / "fold.json"
    assert cli.run(["bench", "fold", "--quick", "--blocks", "doconv, acnet", "--rounds", "3", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for word in ("doconv", "acnet", "folded / plain", "control", "wide / folded", "folded float64", "same operators"):
        assert word in text
    record = json.loads(out.read_text())
    assert record["command"] == "convfold bench fold --blocks doconv,acnet --rounds 3 --seed 0 --quick"
    assert record["setting"] == {"channels": 4, "size": 6, "batch": 1, "rounds": 3}
    assert [result["block"] for result in record["results"]] == ["doconv", "acnet"]
    assert all(result["same_operators"] and result["error_float64"] < 1e-12 for result in record["results"])
    assert (record["threads"], record["allocator"], record["skipped"]) == (1, "as it is", {})
    assert [path.name for path in out.parent.iterdir()] == ["fold.json"]


def test_train_prints_and_saves(small, tmp_path, capsys):
    out = tmp_path / "train.json"
    assert cli.run(["bench", "train", "--quick", "--blocks", "expandnet", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    for word in ("expandnet, feature", "expandnet, kernel", "step / plain", "control", "memory"):
        assert word in text
    record = json.loads(out.read_text())
    assert [(r["block"], r["mode"]) for r in record["results"]] == [("expandnet", "feature"), ("expandnet", "kernel")]
    assert record["setting"]["rounds"] == 2


@pytest.mark.parametrize("verb", ["fold", "train"])
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--blocks", "repvg"], "unknown block: got 'repvg'"),
        (["--blocks", " , "], "--blocks names no block"),
        (["--rounds", "1"], "Invalid value for '--rounds'"),
        (["--out", "/proc/nowhere/x.json"], "/proc/nowhere: cannot write"),
    ],
)
def test_wrong_options_are_refused_before_measuring(idle, capsys, verb, options, sentence):
    assert cli.run(["bench", verb, *options]) == 2
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_out_must_not_be_a_folder(idle, tmp_path, capsys):
    assert cli.run(["bench", "fold", "--out", str(tmp_path)]) == 2
    assert "--out is a folder" in " ".join(capsys.readouterr().err.split())


def test_a_block_that_refuses_is_left_out_unless_it_was_asked_for(small, monkeypatch, tmp_path, capsys):
    measure = bench.bench_fold

    def refusing(name, setting, seed):
        if name == "dbb":
            raise InvalidArgument("needs [another] shape", where="dbb")
        return measure(name, setting, seed)

    monkeypatch.setattr(bench, "names", lambda: ["acnet", "dbb"])
    monkeypatch.setattr(bench, "bench_fold", refusing)
    out = tmp_path / "fold.json"
    assert cli.run(["bench", "fold", "--quick", "--out", str(out)]) == 0
    assert "left out: dbb (dbb: needs [another] shape.)" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert [result["block"] for result in record["results"]] == ["acnet"]
    assert record["skipped"] == {"dbb": "dbb: needs [another] shape."}
    assert cli.run(["bench", "fold", "--quick", "--blocks", "dbb"]) == 2
