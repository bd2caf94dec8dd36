"""Two files timed in each runtime that is there: what is run, what is said, and what is not there."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from convfold.cost import timing
from convfold.report import latency
from convfold.report.graph_page import graph_page
from convfold.report.latency import FileLatency, file_latencies
from convfold.verify.onnx import timing as runs
from support.onnx_small import CHANNELS, branched, save

from .graph_examples import single

SHAPES = {"x": (1, CHANNELS, 6, 6)}
SECONDS = {"before.onnx": 0.5, "after.onnx": 0.125}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two files, and no OpenVINO."""
    find = importlib.util.find_spec
    monkeypatch.setattr(latency, "find_spec", lambda name: None if name == "openvino" else find(name))
    return save(branched(), tmp_path / "before.onnx"), save(branched(1), tmp_path / "after.onnx")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock by which the one file takes half a second and the other an eighth; what each run was given is kept."""
    held = SimpleNamespace(now=0.0, given=[])

    def runner(path: Path, feeds: Any, threads: int) -> Callable[[], None]:
        held.given.append((path.name, {name: array.shape for name, array in feeds.items()}, threads))

        def run() -> None:
            assert torch.get_num_threads() == 1
            held.now += SECONDS[path.name]

        return run

    monkeypatch.setattr(runs, "runner", runner)
    monkeypatch.setattr(timing, "time", SimpleNamespace(process_time=lambda: held.now))
    held.runner = runner
    return held


def test_the_times_are_those_of_the_clock(files: tuple[Path, Path], clock: SimpleNamespace) -> None:
    [found] = file_latencies(*files, SHAPES)
    assert (found.runtime, found.before, found.after) == ("ONNX Runtime", 500.0, 125.0)
    assert found.ratio is not None
    assert found.ratio.to_dict() == {"median": 4.0, "low": 4.0, "high": 4.0, "rounds": 8}
    assert clock.given == [(path.name, SHAPES, 1) for path in files]
    assert str(found) == "ONNX Runtime: 500 ms -> 125 ms, 4.00 times as fast (4.00-4.00)"
    assert json.loads(json.dumps(found.to_dict()))["ratio"]["median"] == 4.0


def test_openvino_is_run_where_it_is_installed(
    files: tuple[Path, Path], clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Core:
        def read_model(self, path: str) -> Path:
            return Path(path)

        def compile_model(self, model: Path, device: str, options: dict[str, Any]) -> Any:
            asked.append((device, options["INFERENCE_NUM_THREADS"], options["INFERENCE_PRECISION_HINT"]))

            def infer(feeds: Any, share_inputs: bool) -> None:
                clock.runner(model, feeds, 1)()

            return SimpleNamespace(create_infer_request=lambda: SimpleNamespace(infer=infer))

    monkeypatch.setattr(latency, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=Core))
    first, second = file_latencies(*files, SHAPES)
    assert (second.runtime, second.before, second.after) == ("OpenVINO", 500.0, 125.0)
    assert first.ratio == second.ratio
    assert asked == [("CPU", 1, "f32")] * 2


def test_a_runtime_that_does_not_take_a_file_says_why(
    files: tuple[Path, Path], clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Core:
        def read_model(self, path: str) -> None:
            raise RuntimeError("no such\noperator")

    monkeypatch.setattr(latency, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=Core))
    found = file_latencies(*files, SHAPES)[1]
    assert str(found) == "OpenVINO: it does not run these files (no such operator)"
    assert found.to_dict() == {
        "runtime": "OpenVINO", "before": None, "after": None, "ratio": None,
        "reason": "it does not run these files (no such operator)",
    }  # fmt: skip


def test_a_file_that_is_not_run_is_not_timed(files: tuple[Path, Path]) -> None:
    [found] = file_latencies(*files, {"x": (1, CHANNELS + 1, 6, 6)})
    assert found.ratio is None
    assert found.reason.startswith("it does not run these files (")
    assert "ONNX Runtime does not run the model on these inputs" in found.reason


def test_by_the_real_clock(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.0)
    monkeypatch.setattr(latency, "LEAST", 1e-4)
    [found] = file_latencies(*files, SHAPES)
    assert found.ratio is not None
    assert found.ratio.rounds == latency.FEWEST
    assert found.before is not None
    assert found.before > 0


def test_the_page_shows_what_was_timed() -> None:
    pytest.importorskip("jinja2")
    told = single() | {
        "latency": [
            FileLatency("ONNX Runtime", 16.912, 14.04, timing.Ratio(1.2049, 1.19, 1.22, 9)).to_dict(),
            FileLatency("OpenVINO", reason="it does not run these files (<b>)").to_dict(),
        ]
    }
    page = graph_page(told)
    change = '<span class="change">1.20×</span>'
    assert f'<dt>ONNX Runtime {change}</dt><dd>16.9 <span class="to">→</span> 14 ms</dd>' in page
    assert "2× is twice as fast; quartiles: ONNX Runtime 1.19 to 1.22.</p>" in page
    assert "OpenVINO: it does not run these files (&lt;b&gt;).</p>" in page
    assert page.count('class="note"') == 2
    assert 'class="note"' not in graph_page(single())


@pytest.mark.parametrize(
    ("time", "text"), [(0.01234, "0.0123"), (9.999, "10"), (123.4, "123"), (12345.6, "12,346"), (None, "unknown")]
)
def test_times_are_written_without_exponents(time: float | None, text: str) -> None:
    assert latency.milliseconds(time) == text
