"""The demo from end to end: killed, resumed, and true to what a single run gives."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

pytest.importorskip("sklearn")
pytest.importorskip("scipy")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")
pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime

from convfold.cli import INTERRUPTED
from convfold.errors import FileProblem, InvalidArgument, UnknownName
from convfold.studies.demo.arms import CONTROL, PLAIN, Settings, TrainJob, dataset
from convfold.studies.demo.files import Folder, load_pair
from convfold.studies.demo.study import QUICK, Options
from convfold.studies.demo.study import demo as run_demo

from .conftest import SEEDS, Demo, alive, children, start, wait_for_lines

ARMS = (PLAIN, CONTROL, "repvgg")
QUIET = Console(quiet=True)


def records(demo: Demo) -> list[dict]:
    """The log's lines that are whole."""
    found = []
    for line in (Path(demo.out) / "runs.jsonl").read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def test_a_killed_demo_leaves_no_half_written_file(demo: Demo) -> None:
    assert 2 <= len(demo.logged_at_kill) < len(ARMS) * SEEDS
    for line in demo.logged_at_kill:
        assert json.loads(line)["result"]["epochs"]
    assert not [name for name in demo.files_at_kill if name.endswith(("report.html", "summary.json", ".onnx"))]


def test_a_killed_demo_leaves_no_worker_behind(demo: Demo) -> None:
    assert demo.orphans == 0


def test_resuming_succeeds_and_does_no_finished_run_again(demo: Demo) -> None:
    assert demo.code == 0, demo.stderr
    assert demo.stderr == ""
    log = (Path(demo.out) / "runs.jsonl").read_text().splitlines()
    assert log[: len(demo.logged_at_kill)] == demo.logged_at_kill
    runs = [(record["name"], record["seed"]) for record in records(demo)]
    assert sorted(runs) == sorted((arm, seed) for arm in ARMS for seed in range(SEEDS))
    assert f"Resuming: {len(demo.logged_at_kill)} finished runs" in demo.stdout
    assert "1 line of the log is cut off" in demo.stdout


def test_a_resumed_demo_has_the_results_of_uninterrupted_runs(demo: Demo) -> None:
    settings = Settings(QUICK)
    for record in records(demo):
        alone = TrainJob(record["name"], record["seed"], settings, keep_weights=False).run(lambda _: None)
        alone = json.loads(json.dumps(alone))
        for key in ("epochs", "wrong_wide", "wrong_folded", "certificate"):
            assert record["result"][key] == alone[key], (record["name"], record["seed"], key)


def test_no_temporary_file_is_left(demo: Demo) -> None:
    assert not [path for path in Path(demo.out).rglob(".*") if path.is_file()]


@pytest.mark.parametrize("arm", ARMS)
def test_files_hold_the_folded_network_and_onnx_predicts_as_pytorch(demo: Demo, arm: str) -> None:
    folder = Folder(Path(demo.out))
    images = dataset().test_x
    _, folded = load_pair(folder, arm, Settings(QUICK))
    assert {tuple(t.shape) for t in load_file(folder.weights(arm, "folded")).values()} == {
        tuple(t.shape) for t in folded.state_dict().values()
    }
    session = onnxruntime.InferenceSession(folder.onnx(arm).read_bytes(), providers=["CPUExecutionProvider"])
    assert not isinstance(session.get_inputs()[0].shape[0], int), "the batch is not free"
    with torch.no_grad():
        expected = folded(images).argmax(1)
    for batch in (1, 13, len(images)):
        parts = [session.run(None, {"images": part.numpy()})[0].argmax(1) for part in images[:130].split(batch)]
        found = torch.cat([torch.from_numpy(part) for part in parts])
        assert torch.equal(found, expected[:130])
    result = next(r["result"] for r in records(demo) if (r["name"], r["seed"]) == (arm, 0))
    assert int((expected != dataset().test_y).sum()) == result["wrong_folded"]


def test_onnx_holds_only_plain_operators_and_its_weights(demo: Demo) -> None:
    model = onnx.load(Folder(Path(demo.out)).onnx("repvgg"))
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("Conv") == 3
    assert "BatchNormalization" not in operators
    assert "Add" not in operators


def test_the_summary_repeats_the_log(demo: Demo) -> None:
    summary = json.loads((Path(demo.out) / "summary.json").read_text())
    assert summary["all_equal"] is True
    assert summary["command"].startswith("convfold demo --quick --blocks repvgg --seeds 2 --out ")
    for record in records(demo):
        result = record["result"]
        error = summary["test_error_percent"][record["name"]][record["seed"]]
        assert error == pytest.approx(100 * result["wrong_folded"] / result["test_images"])
    plain, wide = summary["networks"][PLAIN], summary["networks"]["repvgg"]
    assert wide["folded"] == plain["folded"]
    assert wide["wide"]["macs"] > wide["folded"]["macs"]


@pytest.mark.parametrize("logged", [0, 1])
def test_ctrl_c_is_one_sentence_and_leaves_no_worker(tmp_path: Path, logged: int) -> None:
    """Both while the workers are starting and while they train."""
    process = start(tmp_path / "out", seeds=300)  # more than it can do before it is interrupted
    deadline = time.monotonic() + 120
    while len(workers := children(process.pid)) < 2:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    wait_for_lines(process, tmp_path / "out", logged)
    # A terminal sends it to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == f"convfold: {INTERRUPTED}.\n"
    while any(map(alive, workers)):
        assert time.monotonic() < deadline, "a worker is still there"
        time.sleep(0.02)


def test_an_unknown_block_offers_the_nearest_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"repvg.*Did you mean repvgg"):
        run_demo(Options(["repvg"], 1, tmp_path / "out", quick=True), QUIET)
    assert not (tmp_path / "out").exists()


def test_too_few_seeds(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"--seeds.*got 0, expected 1 or more"):
        run_demo(Options(["repvgg"], 0, tmp_path / "out", quick=True), QUIET)


def test_an_output_folder_that_cannot_be_written_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("I am no folder")
    with pytest.raises(FileProblem, match=r"file/out.*cannot write"):
        run_demo(Options(["repvgg"], 1, tmp_path / "file" / "out", quick=True), QUIET)
    assert (tmp_path / "file").read_text() == "I am no folder"
