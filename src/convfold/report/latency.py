"""How long two ONNX files take: in ONNX Runtime, and in OpenVINO where that is installed."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convfold.cost.timing import Ratio, Work, one_thread, paired, ratio

if TYPE_CHECKING:
    from convfold.graph.onnx.evaluate_numbers import Array

__all__ = ["FileLatency", "file_latencies", "milliseconds"]

# Rounds of a comparison, and the seconds that all of them may take together.
FEWEST, MOST, SECONDS = 5, 31, 5.0
LEAST = 0.01


@dataclass(frozen=True)
class FileLatency:
    """Two files in one runtime: milliseconds of CPU time for one run, medians; `ratio` is before by after.

    Where the runtime does not take a file, `reason` says why, and there are no figures.
    """

    runtime: str
    before: float | None = None
    after: float | None = None
    ratio: Ratio | None = None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and the page."""
        figures = {"before": self.before, "after": self.after}
        return {
            "runtime": self.runtime,
            **figures,
            "ratio": None if self.ratio is None else self.ratio.to_dict(),
            "reason": self.reason,
        }

    def __str__(self) -> str:
        if self.ratio is None:
            return f"{self.runtime}: {self.reason}"
        found = self.ratio
        return (
            f"{self.runtime}: {milliseconds(self.before)} ms -> {milliseconds(self.after)} ms, "
            f"{found.median:.2f} times as fast "
            f"({found.low:.2f}-{found.high:.2f})"
        )


def milliseconds(time: float | None) -> str:
    """A time in three digits, and as many as it has before the point."""
    return "unknown" if time is None else f"{time:,.0f}" if time >= 100 else f"{time:.3g}"


def file_latencies(
    before: str | os.PathLike[str], after: str | os.PathLike[str], shapes: Mapping[str, Sequence[int]]
) -> list[FileLatency]:
    """Run both files in turns on one thread, on one random input of these shapes, in each runtime that is installed.

    The times are CPU time of this process, so that others cost noise alone, and ratios are taken within a round.
    Raises what `convfold.graph.onnx.read.read` raises.
    """
    from convfold.graph.onnx.read import read  # noqa: PLC0415
    from convfold.verify.onnx.inputs import random_inputs  # noqa: PLC0415
    from convfold.verify.onnx.timing import runner  # noqa: PLC0415

    model = read(before)

    def in_onnxruntime(path: Path) -> Work:
        return runner(path, random_inputs(model, shapes, seed=0), threads=1)

    def in_openvino(path: Path) -> Work:
        return _openvino_runner(path, random_inputs(model, shapes, seed=0))

    files = Path(before), Path(after)
    with one_thread():
        found = [_timed("ONNX Runtime", in_onnxruntime, *files)]
        if find_spec("openvino") is not None:
            found.append(_timed("OpenVINO", in_openvino, *files))
    return found


def _timed(runtime: str, opened: Callable[[Path], Work], before: Path, after: Path) -> FileLatency:
    try:
        return _compared(runtime, opened(before), opened(after))
    except Exception as error:  # of whatever kind a runtime raises for operators and inputs that it does not know
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return FileLatency(runtime, reason=f"it does not run these files ({said[:200]})")


def _compared(runtime: str, before: Work, after: Work) -> FileLatency:
    trial = paired({"before": [before], "after": [after]}, rounds=1, least=0.0)
    lasts = sum(max(times[0], LEAST) for times in trial.values())
    rounds = int(min(max(SECONDS / lasts, FEWEST), MOST))
    taken = paired({"before": [before], "after": [after]}, rounds, LEAST, warm=0)
    first, second = (1000 * statistics.median(taken[which]) for which in ("before", "after"))
    return FileLatency(runtime, first, second, ratio(taken["before"], taken["after"]))


def _openvino_runner(path: Path, feeds: Mapping[str, Array]) -> Work:
    import openvino  # noqa: PLC0415

    options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.read_model(os.fspath(path))
    request = core.compile_model(model, "CPU", options).create_infer_request()
    held = dict(feeds)
    return lambda: request.infer(held, share_inputs=True)
