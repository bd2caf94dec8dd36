"""``convfold bench counters``: what is asked of other counters, and how their answers are judged."""

import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convfold.cli.bench_counters import counters
from convfold.errors import FileProblem, InvalidArgument
from convfold.studies.bench.counters.speed import against_forward, in_fresh_process
from convfold.studies.bench.counters.study import Answers, bench_counters
from convfold.studies.bench.counters.table import case_named
from convfold.studies.bench.counters.tools import TOOLS, asked, version_of


def judged(answer, case="Conv2d", rest=360):
    answers = Answers(case_named(case), {"tool": answer}, rest)
    return answers.verdict("tool"), answers.shown("tool")


def test_verdicts():
    truth = 2 * 30 * 6 * 4 * 9
    assert judged(truth) == ("exact", "exact")
    assert judged(truth + 360) == ("wider", "(x1.03)")
    assert judged(truth + 361) == ("wrong", "x1.03")
    assert judged(2 * truth) == ("wrong", "x2")
    assert judged(truth - 1) == ("wrong", "x1")
    assert judged(0) == ("zero", "zero")
    assert judged("ValueError: no") == ("failed", "failed")
    assert judged(0, "outer") == ("exact", "exact")
    assert judged(24, "outer", 24) == ("wider", "(24)")


def test_the_study_asks_every_tool_about_every_case():
    cases = [case_named("Conv2d"), case_named("LSTM"), case_named("mv")]
    told = []
    study = bench_counters(["convfold", "FlopCounterMode"], told.append, cases)
    assert told == ["Conv2d", "LSTM", "mv"]
    assert [answers.said["convfold"] for answers in study.answers] == [case.macs.value for case in cases]
    assert study.counts("convfold") == {"exact": 3, "wider": 0, "wrong": 0, "zero": 0, "failed": 0}
    plain = json.loads(json.dumps(study.to_dict()))
    assert plain["cases"][0]["law"] == "2 batch * 30 positions * 6 out * 4 inputs * 9 taps"
    assert plain["tools"]["convfold"]["exact"] == 3


def test_a_tool_that_fails_says_why_and_leaves_torch_as_it_was(monkeypatch):
    def careless(model, inputs):
        F.conv2d = torch.conv2d = torch.Tensor.matmul = None
        raise ValueError("it   is\nstuck")

    monkeypatch.setitem(TOOLS, "careless", careless)
    before = F.conv2d, torch.conv2d, torch.Tensor.matmul
    assert asked("careless", nn.Identity(), ()) == "ValueError: it is stuck"
    assert (F.conv2d, torch.conv2d, torch.Tensor.matmul) == before
    assert version_of("careless") is None
    assert version_of("FlopCounterMode") == version_of("torch")


def test_wrong_options(tmp_path):
    with pytest.raises(InvalidArgument, match=r"--tools names no counter: got 'flops', expected one of convfold, Flop"):
        counters(tools="thop,flops")
    with pytest.raises(FileProblem, match=r"--out is a folder: .*expected the name of a file"):
        counters(out=tmp_path)


def test_the_verb_prints_a_table_and_saves_it(tmp_path, capsys, monkeypatch):
    cases = [case_named("Conv2d"), case_named("LSTM")]
    monkeypatch.setattr("convfold.cli.bench_counters.bench_counters", lambda t, tell: bench_counters(t, tell, cases))
    out = tmp_path / "counters.json"
    assert counters(tools="FlopCounterMode", out=out) == 0
    said = capsys.readouterr().out
    assert "convfold: 2 of 2 exact" in said
    assert "FlopCounterMode: 1 of 2 exact (1 zero)" in said
    saved = json.loads(out.read_text())
    assert saved["command"] == "convfold bench counters --tools FlopCounterMode"
    assert [case["macs"] for case in saved["cases"]] == [case.macs.value for case in cases]


def test_counting_resnet50_takes_no_longer_than_running_it():
    found = against_forward(rounds=5)
    assert found["cost / forward"]["median"] <= 1.2


@pytest.mark.slow
def test_a_very_large_input_takes_neither_time_nor_memory():
    found = in_fresh_process()
    first = found["runs"][0]
    assert found["real_run"] == ""
    assert first["mib"] < 50
    # CPU seconds: other processes do not count.
    assert first["cpu_seconds"] < 1


def test_a_fresh_process_that_fails_is_told():
    with pytest.raises(
        FileProblem, match=r"timm:no_such_model: counting in a fresh process failed: got .*no_such_model"
    ):
        in_fresh_process("timm:no_such_model")
