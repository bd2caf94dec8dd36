"""``convfold bench decompose``: what is chosen, what is kept of an earlier run, and its pictures."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convfold.errors import FileProblem, InvalidArgument
from convfold.studies.bench.decompose import study
from convfold.studies.bench.decompose.study import Setting, bench_decompose, summarise
from convfold.studies.bench.decompose.tasks import Task, _columns, _patches, _photographs, _psnr

SETTING = Setting(tasks=("toy",), methods=("svd",), fractions=(0.6, 0.01), seeds=1)


def toy(seed: int) -> Task:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3))
    mix = torch.randn(4, 2)

    def inputs(count: int) -> Tensor:
        return torch.einsum("ck,nkhw->nchw", mix, torch.randn(count, 2, 6, 6))

    def closeness(x: Tensor) -> Any:
        return lambda network: -float((network(x) - model(x)).norm().detach())

    return Task("toy", model, inputs(40), inputs(1), "closeness", closeness(inputs(20)), closeness(inputs(20)), -50.0)


@pytest.fixture(autouse=True)
def tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(study.TASKS, "toy", toy)
    monkeypatch.setitem(study.SETTINGS, "toy", {"size": 1})


def test_validation_chooses_and_a_second_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    made = bench_decompose(SETTING, tmp_path, told.append)
    assert (tmp_path / "decompose-toy.png").stat().st_size > 1000
    assert json.loads((tmp_path / "decompose.json").read_text())["cells"] == made["cells"]
    first, second = made["cells"]
    validation = {way: found["validation"] for way, found in first["candidates"].items()}
    assert first["chosen"] == max(validation, key=lambda way: validation[way])
    assert first["chosen"] != "weights", "inputs of two directions: data has something to say"
    assert all(found["error_within_bound"] for found in first["candidates"].values())
    assert second["chosen"] is None
    assert "cannot bring the model to so few MACs" in second["candidates"]["data"]["refused"]
    (row,) = summarise(made["cells"])
    assert row["chosen"][1] == first["candidates"][first["chosen"]]["held_out"]

    told.clear()
    assert bench_decompose(SETTING, tmp_path, told.append)["cells"] == made["cells"]
    assert told == []
    monkeypatch.setitem(study.SETTINGS, "toy", {"size": 2})
    bench_decompose(SETTING, tmp_path, told.append)
    assert len(told) == 3, "networks of another setting are made again"


def test_a_study_that_cannot_be_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="no such task: got 'cats', expected digits, photographs, toy"):
        bench_decompose(Setting(tasks=("cats",)), tmp_path, print)
    with pytest.raises(InvalidArgument, match="no such method: got 'qr', expected separable"):
        bench_decompose(Setting(methods=("qr",)), tmp_path, print)
    (tmp_path / "decompose.json").write_text("{")
    with pytest.raises(FileProblem, match=r"decompose\.json: an earlier run's file cannot be read"):
        bench_decompose(SETTING, tmp_path, print)


def test_parts_of_a_photograph_do_not_meet() -> None:
    for picture in _photographs():
        marked = torch.arange(picture.shape[-1]).expand_as(picture)
        parts = [_columns(marked, part).unique() for part in range(3)]
        assert torch.equal(torch.cat(parts), marked.unique())
        assert all(len(part) % 2 == 0 for part in parts)
        assert _patches(picture, 24).shape[1:] == (1, 24, 24)


def test_psnr_of_a_known_error() -> None:
    picture = torch.full((1, 1, 20, 20), 0.5)
    assert _psnr(lambda x: torch.full_like(picture, 0.6), [picture]) == pytest.approx(20, abs=1e-4)
