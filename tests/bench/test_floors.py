"""The floors: that they would be seen to be missed, and that the committed results hold them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from convfold.studies.bench.zoo.models import FAMILIES
from convfold.studies.bench.zoo.study import violations
from floors import FLOORS, MOBILEONE_NODES, RESULTS, main, read, worse

NAME = "timm:mobileone_s0"


def line(name: str = NAME) -> dict[str, Any]:
    """A result exactly at the floor."""
    floor = FLOORS[name]
    ours = {
        "macs": round((floor.mmacs or 1) * 1e6),
        "convolutions": floor.convolutions,
        "operators": floor.operators,
    }
    original = {**ours, "operators": floor.original_operators}
    size = {"timm:inception_v3": 299}.get(name, 224 if name.startswith(("timm", "torchvision")) else 56)
    found = {"input": [1, 3, size, size], "cost": {"convfold": ours, "original": original}}
    return {**found, "onnx": {"convfold": dict(MOBILEONE_NODES)}} if name == NAME else found


def test_every_floor_is_of_a_model_of_the_default_list() -> None:
    assert FLOORS.keys() <= set(FAMILIES)


@pytest.mark.parametrize("name", FLOORS)
def test_a_result_at_its_floor_is_not_worse(name: str) -> None:
    assert worse({name: line(name)}) == []


@pytest.mark.parametrize("what", ["macs", "convolutions", "operators"])
@pytest.mark.parametrize("name", FLOORS)
def test_one_more_of_anything_is_worse(name: str, what: str) -> None:
    result = line(name)
    result["cost"]["convfold"][what] += 60_000 if what == "macs" else 1
    assert len(worse({name: result})) == 1


def test_operators_are_relative_to_the_originals() -> None:
    result = line()
    for who in ("convfold", "original"):
        result["cost"][who]["operators"] += 84
    assert worse({NAME: result}) == []


def test_nodes_failures_and_sizes() -> None:
    result = line()
    result["onnx"]["convfold"]["Add"] = 1
    assert worse({NAME: result}) == [f"{NAME}: 1 Add in ONNX Runtime, not 0"]
    assert worse({NAME: {"failed": "it is ill"}}) == [f"{NAME}: it is ill"]
    small = copy.deepcopy(line())
    small["input"], small["cost"]["convfold"]["macs"] = [1, 3, 64, 64], 10**12
    assert worse({NAME: small}) == []


def test_a_file_is_read_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "zoo.jsonl"
    path.write_text('{"name": "timm:mobileone_s0", "result": {"failed": "first"}}\n')
    assert main(path) == 1
    assert capsys.readouterr().out == "timm:mobileone_s0: first\n1 of 18 floors checked, 1 worse\n"


@pytest.mark.skipif(not RESULTS.exists(), reason="results/zoo.jsonl is not there")
def test_the_committed_results_hold_every_floor_and_promise() -> None:
    results = read(RESULTS)
    assert worse(results) == []
    assert FLOORS.keys() <= results.keys()
    assert {name: found for name, result in results.items() if (found := violations(result))} == {}
