"""The price in seconds: every kind of definition timed once on the user's own machine, and remembered."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.errors import FileProblem
from convfold.files import write_text
from convfold.graph.maps import Map
from convfold.graph.program import Concat, Linear, Node, Opaque, Program, Spatial
from convfold.plan.search.price import Price, is_slice, price

__all__ = ["Stopwatch", "default_cache"]

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
ROUNDS, LEAST = 7, 2e-4  # rounds of a measurement, and the seconds that one should last


def default_cache() -> Path:
    """Where timings are kept between runs: ``$XDG_CACHE_HOME/convfold/latency.json``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "convfold" / "latency.json"


class Stopwatch:
    """Prices with seconds: the operators of each definition run alone, eagerly, on `device` in `dtype`.

    A time is the median of several rounds, rounded to two digits, so that noise decides nothing. Times are kept
    by operator, shapes, precision, device, number of threads and version of torch in the file `cache`.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, cache: Path | None = None) -> None:
        self._device, self._dtype = device, dtype
        self._cache = default_cache() if cache is None else cache
        self._times: dict[str, float] = self._read()
        self._new = 0
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
        self._place = f"{name or platform.machine()} {device.type} {torch.get_num_threads()} {torch.__version__}"

    def _read(self) -> dict[str, float]:
        try:
            found = {key: float(value) for key, value in json.loads(self._cache.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}
        return {key: seconds for key, seconds in found.items() if 0 <= seconds < math.inf}

    def save(self) -> None:
        """Write the times, if there are new ones; a cache that cannot be written is not needed."""
        if self._new:
            try:
                self._cache.parent.mkdir(parents=True, exist_ok=True)
                write_text(self._cache, json.dumps({**self._read(), **self._times}, indent=0, sort_keys=True))
            except (OSError, FileProblem):
                return
            self._new = 0

    def __call__(self, program: Program, number: int, node: Node, original: bool) -> Price:
        """`price` with the seconds that the definition takes."""
        counted = price(program, number, node, original)
        shape = program.values[number].shape
        if isinstance(node, Opaque) or (isinstance(node, Spatial) and node.free) or counted.operators == 0:
            seconds = 0.0
        elif isinstance(node, Linear):
            seconds = sum(self._term(program, term.map, term.source) for term in node.terms)
            work = counted.operators - sum(_executes(term.map) for term in node.terms)
            seconds += max(work, 0) * self._elementwise(shape)
        elif isinstance(node, Concat):
            shapes = [program.values[piece].shape for piece in node.pieces]
            seconds = self._time(f"cat {node.axis}", shapes, lambda *xs: torch.cat(xs, node.axis))
        else:
            seconds = self._elementwise(shape if not isinstance(node, Spatial) else program.values[node.source].shape)
        return counted._replace(seconds=seconds)

    def _elementwise(self, shape: tuple[int, ...]) -> float:
        return self._time("add", [shape, shape], torch.add)

    def _term(self, program: Program, m: Map, source: int) -> float:
        shape = program.values[source].shape
        if m.kind in ("identity", "scalar"):
            return 0.0
        if m.kind == "diagonal":
            return self._elementwise(shape)
        if m.kind == "select":
            index = torch.tensor(m.index or (0,), device=self._device)
            axis = m.axis or 0
            sliced = is_slice(m.index or ())
            return 0.0 if sliced else self._time(f"select {axis}", [shape], lambda x: x.index_select(axis, index))
        if not m.window:
            return self._time("linear", [shape, (m.rows, m.cols)], F.linear)
        pads = [n for axis in reversed(m.window) for n in (axis.lo, axis.hi)]
        even = all(axis.lo == axis.hi >= 0 for axis in m.window)
        taps, stride = [a.kernel for a in m.window], [a.stride for a in m.window]
        dilation, padding = [a.dilation for a in m.window], [a.lo if even else 0 for a in m.window]
        dims, label = len(m.window), f"{m.kind} {m.window} {m.groups}"

        def padded(x: Tensor) -> Tensor:
            return x if even else F.pad(x, pads)

        if m.kind == "pool":
            if all(k == 1 for k in taps):
                return self._time(label, [shape], lambda x: F.pad(x, pads))
            native = even and all(2 * a.lo <= a.kernel for a in m.window)
            before = padding if native else [0] * dims
            return self._time(
                label, [shape], lambda x: _POOL[dims](x if native else F.pad(x, pads), taps, stride, before)
            )
        if m.kind == "transposed":
            kernel = (m.cols, m.rows // m.groups, *taps)
            extra = [a.lo - a.hi for a in m.window]
            lows = [a.lo for a in m.window]
            return self._time(
                label,
                [shape, kernel],
                lambda x, w: _TRANSPOSED[dims](x, w, None, stride, lows, extra, m.groups, dilation),
            )
        kernel = (m.rows, m.cols // m.groups, *taps)
        return self._time(
            label, [shape, kernel], lambda x, w: _CONV[dims](padded(x), w, None, stride, padding, dilation, m.groups)
        )

    def _time(self, label: str, shapes: list[tuple[int, ...]], run: Callable[..., Any]) -> float:
        key = f"{self._place} | {self._dtype} | {label} | {shapes}"
        if key not in self._times:
            tensors = [torch.randn(shape, device=self._device, dtype=self._dtype) for shape in shapes]
            with torch.no_grad():
                self._times[key] = _rounded(_median(lambda: run(*tensors), self._device))
            self._new += 1
        return self._times[key]


def _executes(m: Map) -> int:
    """The operators of a term that `_term` times itself."""
    if m.kind in ("identity", "scalar"):
        return 0
    if m.kind == "select":
        return 0 if is_slice(m.index or ()) else 1
    uneven = any(a.lo != a.hi or a.lo < 0 for a in m.window)
    return 2 if uneven and m.kind == "conv" else 1


def _median(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call: the median over rounds that each last long enough to be read off a clock."""

    def round_of(times: int) -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter()
        for _ in range(times):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) / times

    run()
    times = max(1, math.ceil(LEAST / max(round_of(1), 1e-7)))
    return statistics.median(round_of(times) for _ in range(ROUNDS))


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.1e}")
