"""Bench dynamic: the cases, what is compared, the verdict, and the verb."""

from __future__ import annotations

import json

import pytest
import torch

from convfold import cli
from convfold.cli import bench_dynamic as verb
from convfold.cost.timing import Ratio
from convfold.errors import InvalidArgument
from convfold.studies.bench.dynamic import Case, DynamicResult, DynamicSetting, bench_dynamic, candidates, cases, peaks

SMALL = DynamicSetting(channels=(8,), sizes=(6,), batches=(2,), experts=(2,), rounds=2)


@pytest.fixture
def small(monkeypatch):
    # The allocator's setting would stay with the process that runs the tests.
    monkeypatch.setattr(verb, "steady_allocator", lambda: "as it is")
    monkeypatch.setattr(DynamicSetting, "quick", classmethod(lambda cls: SMALL))


def test_the_grid_is_every_combination():
    listed = list(cases(DynamicSetting()))
    assert len(listed) == len(set(listed)) == 3 * 2 * 2 * 3 * 2
    assert Case("dense", 128, 14, 32, 4) in listed


@pytest.mark.parametrize("kind", ["dense", "depthwise", "1x1"])
def test_what_is_compared_computes_the_same(kind):
    case = Case(kind, 8, 6, 3, 4)
    layers = candidates(case)
    x = torch.randn(3, 8, 6, 6)
    expected = layers["auto"](x)
    assert {"static", "auto", "control", "grouped", "whole", "loop", "feature"} < set(layers)
    for name, layer in layers.items():
        y = layer(x)
        assert y.shape == expected.shape
        if name not in ("static", "timm"):
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)


def test_timm_computes_what_the_layer_does():
    pytest.importorskip("timm")
    layers = candidates(Case("dense", 8, 6, 3, 4))
    ours, theirs = layers["auto"], layers["timm"]
    with torch.no_grad():
        theirs.routing.load_state_dict(ours.router.last.state_dict())
        theirs.layer.weight.copy_(ours.weight.flatten(1))
        theirs.layer.bias.copy_(ours.bias)
    x = torch.randn(3, 8, 6, 6)
    torch.testing.assert_close(theirs(x), ours(x), rtol=1e-4, atol=1e-5)


def test_a_result_has_every_candidate_and_both_passes():
    results = [run() for run in bench_dynamic(SMALL)]
    assert [(r.case.kind, r.way) for r in results][:3] == [
        ("dense", "forward"),
        ("dense", "training"),
        ("depthwise", "forward"),
    ]
    for r in results:
        product = "product" if r.case.kind == "1x1" else "patches"
        assert {"auto", "grouped", "whole", "loop", product, "feature"} <= set(r.over_static)
        assert r.best in r.over_static
        assert bool(r.peaks) == (r.way == "training")
        assert json.loads(json.dumps(r.to_dict()))["best"] == r.best


@pytest.mark.parametrize(
    ("choice", "control", "within"),
    [
        (1.04, (0.99, 1.01), True),
        (1.07, (0.99, 1.01), False),
        (1.07, (0.97, 1.01), True),
        (1.07, (1.0, 1.03), True),
        (0.5, (1.0, 1.0), True),
    ],
)
def test_the_verdict_is_five_percent_beyond_the_control(choice, control, within):
    low, high = control
    result = DynamicResult(
        Case("dense", 8, 6, 3, 4), "forward", 1.0, "grouped", Ratio(choice, 0, 9, 5), Ratio(1.0, low, high, 5), {}
    )
    assert result.within is within


def test_chunks_save_memory_where_kernels_are_many():
    held = peaks(Case("dense", 128, 14, 32, 4))
    assert held["static"] < held["auto"] < 0.7 * held["whole"]


def test_the_verb_prints_and_saves(small, tmp_path, capsys):
    out = tmp_path / "new" / "dynamic.json"
    assert cli.run(["bench", "dynamic", "--quick", "--kinds", "dense, 1x1", "--out", str(out)]) in (0, 1)
    text = capsys.readouterr().out
    for word in ("forward: CPU time", "training: CPU time", "auto / best", "dense 8x6x6", "1x1 8x6x6", "memory of a"):
        assert word in text
    record = json.loads(out.read_text())
    assert [(r["kind"], r["pass"]) for r in record["results"]] == [
        ("dense", "forward"), ("dense", "training"), ("1x1", "forward"), ("1x1", "training"),
    ]  # fmt: skip
    assert (record["threads"], record["allocator"], record["setting"]["rounds"]) == (1, "as it is", 2)


@pytest.mark.parametrize(("within", "code"), [(True, 0), (False, 1)])
def test_the_verbs_exit_code_is_the_verdict(small, within, code, tmp_path, monkeypatch):
    monkeypatch.setattr(DynamicResult, "within", within)
    assert cli.run(["bench", "dynamic", "--quick", "--kinds", "1x1", "--out", str(tmp_path / "a.json")]) == code


def test_bad_input_is_a_sentence(small, tmp_path, capfd):
    with pytest.raises(InvalidArgument, match="--kinds names no kind"):
        verb.dynamic(kinds="dens", out=tmp_path / "a.json")
    assert cli.run(["bench", "dynamic", "--quick", "--out", str(tmp_path)]) == 2
    assert "--out is a folder" in "".join(capfd.readouterr())
