"""The objectives beside MACs for ONNX files: fewer nodes, and fewer seconds by a clock that the tests set."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from convfold.errors import InvalidArgument
from convfold.graph.onnx.capture import capture
from convfold.graph.program import Opaque
from convfold.plan.onnx import stopwatch
from convfold.plan.onnx.price import PROHIBITIVE
from convfold.plan.search import timings
from convfold.transform import fold_onnx, plan_onnx
from convfold.verify.onnx.timing import runner
from support.onnx_small import branched, save

Cost = Callable[[onnx.NodeProto, tuple[int, ...]], float]
CALL = 0.25


def chain(*layers: tuple[int, int, int, int], size: int = 9) -> onnx.ModelProto:
    """Convolutions (from, to, kernel, groups) in a row between two Relus."""
    generator = np.random.default_rng(0)
    nodes, held, name = [helper.make_node("Relu", ["x"], ["v0"])], [], "v0"
    for place, (cols, rows, kernel, groups) in enumerate(layers):
        weight = generator.standard_normal((rows, cols // groups, kernel, kernel)).astype(np.float32)
        held.append(numpy_helper.from_array(weight, f"w{place}"))
        nodes.append(helper.make_node("Conv", [name, f"w{place}"], [f"v{place + 1}"], group=groups))
        name = f"v{place + 1}"
    nodes.append(helper.make_node("Relu", [name], ["y"]))
    left = size - sum(kernel - 1 for _, _, kernel, _ in layers)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "chain",
        [value("x", TensorProto.FLOAT, [1, layers[0][0], size, size])],
        [value("y", TensorProto.FLOAT, [1, layers[-1][1], left, left])],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SEPARABLE = ((8, 8, 3, 8), (8, 8, 1, 1))
WIDENS = ((4, 64, 3, 1), (64, 4, 3, 1))


class Clock:
    """Runs nothing: a model takes the seconds of its nodes, and those of a call."""

    def __init__(self, cost: Cost) -> None:
        self.cost, self.now, self.timed = cost, 0.0, list[list[str]]()

    def runner(self, model: bytes, feeds: dict[str, Any], threads: int) -> Callable[[], None]:
        graph = onnx.load_model_from_string(model).graph
        shapes = {held.name: tuple(held.dims) for held in graph.initializer}
        least = all(array.size == 1 for array in feeds.values())
        seconds = 0.0 if least else sum(self.cost(node, shapes.get(node.input[-1], ())) for node in graph.node)
        self.timed.append([node.op_type for node in graph.node])

        def run() -> None:
            self.now += CALL + seconds

        return run


def each_node(node: onnx.NodeProto, weight: tuple[int, ...]) -> float:
    return 1.0


def large_kernels(node: onnx.NodeProto, weight: tuple[int, ...]) -> float:
    return 100.0 if node.op_type == "Conv" and node.attribute[0].ints[0] > 3 else 1.0


def products(node: onnx.NodeProto, weight: tuple[int, ...]) -> float:
    """Convolutions alone take time, by the elements of their weight."""
    return float(np.prod(weight)) if node.op_type == "Conv" else 0.01


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "convfold" / "latency.json"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[Cost], Clock]:
    """Sets a clock, by which everything is timed from then on."""

    def set_clock(cost: Cost) -> Clock:
        made = Clock(cost)
        monkeypatch.setattr(stopwatch, "runner", made.runner)
        monkeypatch.setattr(timings, "time", SimpleNamespace(perf_counter=lambda: made.now))
        return made

    return set_clock


def convolutions(path: Path, objective: str) -> tuple[int, int]:
    plan = plan_onnx(path, objective=objective)
    return plan.before.convolutions, plan.after.convolutions


def test_operators_fall_where_macs_would_rise(tmp_path: Path) -> None:
    path = save(chain(*SEPARABLE), tmp_path / "a.onnx")
    assert convolutions(path, "macs") == (2, 2)
    folded = fold_onnx(path, tmp_path / "b.onnx", objective="ops")
    assert (folded.plan.before.operators, folded.plan.after.operators) == (4, 3)
    assert folded.plan.after.macs > folded.plan.before.macs
    assert folded.certificate
    assert [node.op_type for node in onnx.load(tmp_path / "b.onnx").graph.node] == ["Relu", "Conv", "Relu"]


def test_seconds_decide_what_operators_and_macs_would_not(tmp_path: Path, clock: Callable[[Cost], Clock]) -> None:
    separable, widens = save(chain(*SEPARABLE), tmp_path / "a.onnx"), save(chain(*WIDENS), tmp_path / "b.onnx")
    clock(each_node)
    assert convolutions(separable, "latency") == (2, 1)
    assert convolutions(widens, "macs") == (2, 1)
    clock(large_kernels)
    assert convolutions(widens, "latency") == (2, 2)


def test_a_file_is_folded_by_seconds(tmp_path: Path, clock: Callable[[Cost], Clock]) -> None:
    clock(products)
    path = save(branched(), tmp_path / "a.onnx")
    folded = fold_onnx(path, tmp_path / "b.onnx", objective="latency")
    assert folded.plan.objective == "latency"
    assert folded.plan.after.convolutions == 2
    assert folded.certificate
    kept = save(chain(*SEPARABLE), tmp_path / "c.onnx")
    assert convolutions(kept, "latency") == (2, 2), "8x8x3x3 products are more than 8x3x3 and 8x8"


def test_the_time_of_a_call_is_taken_off_and_two_digits_are_kept(
    tmp_path: Path, clock: Callable[[Cost], Clock]
) -> None:
    timed = clock(lambda node, weight: 1.234)
    captured = capture(ir.load(save(chain(*SEPARABLE), tmp_path / "a.onnx")))
    watch = stopwatch.FileStopwatch(captured)
    program = captured.program
    seconds = [watch(program, number, node, True).seconds for number, node in program.nodes.items()]
    assert seconds == [1.2, 1.2, 1.2, 1.2]
    # One call, and one of each kind: the two Relus are of two shapes.
    assert sorted(timed.timed) == sorted([["Relu"], ["Relu"], ["Relu"], ["Conv"], ["Conv"]])


def test_what_is_not_written_is_not_timed(tmp_path: Path, clock: Callable[[Cost], Clock]) -> None:
    timed = clock(each_node)
    captured = capture(ir.load(save(chain(*SEPARABLE), tmp_path / "a.onnx")))
    watch = stopwatch.FileStopwatch(captured)
    program = captured.program
    assert watch(program, 1, Opaque((0,), operators=3), True).seconds == 0.0
    watch._counted = lambda *_: PROHIBITIVE
    assert watch(program, 1, program.nodes[1], False) == PROHIBITIVE
    assert not timed.timed


def test_what_was_timed_once_is_remembered(tmp_path: Path, cache: Path, clock: Callable[[Cost], Clock]) -> None:
    path = save(chain(*WIDENS), tmp_path / "a.onnx")
    assert len(clock(large_kernels).timed) == 0
    first = clock(large_kernels)
    assert convolutions(path, "latency") == (2, 2)
    assert first.timed
    held = json.loads(cache.read_text())
    assert len(held) == len(first.timed)
    assert all("onnxruntime" in key for key in held)
    second = clock(each_node)
    assert convolutions(path, "latency") == (2, 2), "by the remembered times"
    assert not second.timed
    cache.write_text("{")
    assert convolutions(path, "latency") == (2, 1)
    assert second.timed


def test_by_the_real_clock_every_kind_of_definition_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    median = timings.median_seconds
    taken = list[float]()

    def quick(run: Callable[[], Any]) -> float:
        taken.append(median(run, rounds=1, least=0.0))
        return taken[-1]

    monkeypatch.setattr(stopwatch, "median_seconds", quick)
    folded = fold_onnx(save(branched(size=12, batch=1), tmp_path / "a.onnx"), tmp_path / "b.onnx", objective="latency")
    assert folded.certificate
    # At least a call, an elementwise node, both convolutions, the normalisation, the sum and the product.
    assert len(taken) >= 7
    assert min(taken) > 0


def test_a_runtime_that_refuses_a_model_says_so() -> None:
    with pytest.raises(InvalidArgument, match=r"^the model: ONNX Runtime refuses the model: got "):
        runner(b"no model", {}, threads=1)
