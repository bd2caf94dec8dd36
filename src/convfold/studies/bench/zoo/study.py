"""``bench zoo``: fold model after model, each in processes of its own, one line of JSON per model."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convfold.studies.bench.zoo.values import ZooSetting
from convfold.studies.runlog import RunLog

__all__ = ["CEILING", "LOG", "Summary", "ZooRun", "bench_zoo", "missing", "summarise", "violations"]

LOG = "zoo.jsonl"
# Relative error of a fold in float64 above which it is wrong, not rounded.
CEILING = 1e-12
# What a fold may not have more of than the original or timm's fold: of what else it has, objectives may trade.
_COSTS: dict[str, tuple[str, ...]] = {
    "macs": ("macs", "convolutions", "operators"),
    "ops": ("operators",),
    "latency": (),
}

Results = dict[str, dict[str, Any]]


@dataclass
class ZooRun:
    """Which models, how, and where to; `limit` are the seconds that each of a model's processes may take.

    A model whose line with this setting is in the log is not measured again, but with `retry` those that
    failed are, and with `again` all.
    """

    models: Sequence[str]
    setting: ZooSetting
    out: Path
    limit: float = 1800.0
    jobs: int = 1
    retry: bool = False
    again: bool = False
    _alive: set[subprocess.Popen[bytes]] = field(default_factory=set)

    def task(self, task: str, name: str) -> dict[str, Any]:
        """Do one task for one model in a process of its own; what it gave, or why it gave nothing."""
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder) / "result.json"
            setting = json.dumps(asdict(self.setting))
            command = [sys.executable, "-m", "convfold.studies.bench.zoo.worker", task, name, setting, str(result)]
            # A file, not a pipe: a pipe that nobody reads stops its writer.
            with (Path(folder) / "said").open("w+b") as said:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
                self._alive.add(process)
                try:
                    code = process.wait(self.limit)
                except subprocess.TimeoutExpired:
                    return {"failed": f"{task}: not done after {self.limit:g} s"}
                finally:
                    process.kill()
                    process.wait()
                    self._alive.discard(process)
                if code == 0 and result.exists():
                    found: dict[str, Any] = json.loads(result.read_text())
                    return found
                said.seek(0)
                last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            return {"failed": f"{task}: the process ended with code {code} {' '.join(last)[:300]}".rstrip()}

    def stop(self) -> None:
        """End every process that is still at work."""
        for process in list(self._alive):
            process.kill()

    def measure(self, name: str) -> dict[str, Any]:
        """All of one model. A failure to fold is the whole result; one of a side measurement is told in its place."""
        start = time.monotonic()
        found = self.task("values", name)
        if self.setting.folding and "failed" not in found:
            found["fold"] = self.task("fold", name)
            if "timm" in found["cost"]:
                found["timm_fold"] = self.task("timm_fold", name)
        return {**found, "wall_seconds": round(time.monotonic() - start, 1)}


def bench_zoo(run: ZooRun, tell: Callable[[str, dict[str, Any], int], None]) -> Results:
    """Measure all models of `run` that are not in its log yet; the results of all of them, by name.

    After each, ``tell(name, result, left)`` is called. Raises FileProblem where the log cannot be written.
    """
    seed, settings = run.setting.seed, run.setting.logged()
    log = RunLog(run.out / LOG, lambda _: settings)
    try:
        done = {name: log.results[name, seed] for name in run.models if (name, seed) in log.results}
        if run.again:
            done = {}
        if run.retry:
            done = {name: result for name, result in done.items() if "failed" not in result}
        waiting = [name for name in dict.fromkeys(run.models) if name not in done]
        writing = threading.Lock()
        with ThreadPoolExecutor(run.jobs) as pool:
            futures = {pool.submit(run.measure, name): name for name in waiting}
            try:
                for left, future in zip(range(len(waiting) - 1, -1, -1), as_completed(futures), strict=True):
                    name = futures[future]
                    done[name] = future.result()
                    with writing:
                        log.add(name, seed, done[name])
                    tell(name, done[name], left)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                run.stop()
        return {name: done[name] for name in dict.fromkeys(run.models)}
    finally:
        log.close()


def violations(result: Mapping[str, Any]) -> list[str]:
    """What of the promise a model breaks: dearer than the original or timm's fold, or not the same function.

    Dearer is meant by the objective that the line was made for.
    """
    if "failed" in result:
        return [f"failed: {result['failed']}"]
    found, costs = [], _COSTS[result.get("objective", "macs")]
    ours = result["cost"]["convfold"]
    for other in ("original", "timm"):
        theirs = result["cost"].get(other, ours)
        found += [f"more {c} than {other}: {ours[c]:,} > {theirs[c]:,}" for c in costs if ours[c] > theirs[c]]
    # Written so that a NaN is a violation.
    if not result["error_float64"] <= CEILING:
        found.append(f"error {result['error_float64']:.1e} in float64")
    if not result["untouched"]:
        found.append("the original was changed")
    return found


def missing(result: Mapping[str, Any]) -> list[str]:
    """What beside the fold itself could not be measured, and why."""
    sides = {name: result[name]["failed"] for name in ("fold", "timm_fold", "onnx") if "failed" in result.get(name, {})}
    if "timm_failed" in result:
        sides["timm"] = result["timm_failed"]
    return [f"no {name}: {reason}" for name, reason in sides.items()]


@dataclass(frozen=True)
class Summary:
    """Over all models: what is broken and what is missing; the worst errors, None where nothing was measured."""

    models: int
    broken: dict[str, list[str]]
    missing: dict[str, list[str]]
    worst_float64: tuple[float, str] | None
    median_ratio: float | None
    worst_ratio: tuple[float, str] | None
    timm_median_ratio: float | None
    timm_worst_ratio: tuple[float, str] | None

    def __str__(self) -> str:
        def worst(pair: tuple[float, str] | None, form: str) -> str:
            return f"{pair[0]:{form}} ({pair[1]})" if pair else "-"

        def number(value: float | None) -> str:
            return "-" if value is None else f"{value:.2f}"

        lines = [
            f"{self.models} models, {len(self.broken)} with a violation or a failure",
            f"float64 error of the fold: worst {worst(self.worst_float64, '.1e')}",
            f"float32 error, folded / original: median {number(self.median_ratio)}, "
            f"worst {worst(self.worst_ratio, '.2f')}",
            f"float32 error, timm's / original: median {number(self.timm_median_ratio)}, "
            f"worst {worst(self.timm_worst_ratio, '.2f')}",
        ]
        told = (*self.broken.items(), *self.missing.items())
        lines += [f"{name}: {'; '.join(reasons)}" for name, reasons in told]
        return "\n".join(lines)


def summarise(results: Mapping[str, Mapping[str, Any]]) -> Summary:
    """Gather what all models together show."""
    whole = {name: result for name, result in results.items() if "failed" not in result}
    broken = {name: found for name, result in results.items() if (found := violations(result))}
    ours = [(result["float32_ratio"]["convfold"], name) for name, result in whole.items()]
    theirs = [(r["float32_ratio"]["timm"], name) for name, r in whole.items() if "timm" in r["float32_ratio"]]
    return Summary(
        len(results),
        broken,
        {name: found for name, result in results.items() if (found := missing(result))},
        max(((r["error_float64"], name) for name, r in whole.items()), default=None),
        statistics.median(value for value, _ in ours) if ours else None,
        max(ours, default=None),
        statistics.median(value for value, _ in theirs) if theirs else None,
        max(theirs, default=None),
    )
