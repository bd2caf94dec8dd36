"""The price in seconds: every kind of definition timed once on the user's own machine, and remembered."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.geometry import point
from convfold.graph.maps import Map
from convfold.graph.program import Concat, Linear, Node, Opaque, Program, Spatial
from convfold.plan.search.price import Price, is_slice, price
from convfold.plan.search.timings import LEAST, ROUNDS, Timings, median_seconds

__all__ = ["Stopwatch"]

_CONV: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_POOL: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


class Stopwatch(Timings):
    """Prices with seconds: the operators of each definition run alone, eagerly, on `device` in `dtype`.

    A time is the median of several rounds, rounded to two digits, so that noise decides nothing. Times are kept
    by operator, shapes, precision, device, number of threads and version of torch in the file `cache`.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, cache: Path | None = None) -> None:
        super().__init__(cache)
        self._device, self._dtype = device, dtype
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
        self._place = f"{name or platform.machine()} {device.type} {torch.get_num_threads()} {torch.__version__}"

    def __call__(self, program: Program, number: int, node: Node, original: bool) -> Price:
        """`price` with the seconds that the definition takes."""
        counted = price(program, number, node, original)
        shape = program.values[number].shape
        if isinstance(node, Opaque) or (isinstance(node, Spatial) and node.free) or counted.operators == 0:
            seconds = 0.0
        elif isinstance(node, Linear):
            seconds = sum(self._term(program, term.map, term.source) for term in node.terms)
            work = counted.operators - sum(_executes(term.map) for term in node.terms)
            seconds += work * self._elementwise(shape) if work > 0 else 0.0
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
        at = len(shape) - 1 if m.axis is None else m.axis
        dims = len(m.window) or len(shape) - 1 - at
        if not m.window and (dims == 0 or dims not in _CONV or at > 1):
            weight = (m.rows, m.cols // m.groups)
            return self._time(f"linear {at} {m.groups}", [shape, weight], lambda x, w: _linear(x, w, at, m.groups))
        # Where channels stand before other axes, a map of them alone is a convolution of one tap.
        window = m.window or point(dims)
        pads = [n for axis in reversed(window) for n in (axis.lo, axis.hi)]
        even = all(axis.lo == axis.hi >= 0 for axis in window)
        taps, stride = [a.kernel for a in window], [a.stride for a in window]
        dilation, padding = [a.dilation for a in window], [a.lo if even else 0 for a in window]
        label = f"{m.kind} {window} {m.groups}"

        def padded(x: Tensor) -> Tensor:
            return x if even else F.pad(x, pads)

        if m.kind == "pool":
            if all(k == 1 for k in taps):
                return self._time(label, [shape], lambda x: F.pad(x, pads))
            native = even and all(2 * a.lo <= a.kernel for a in window)
            before = padding if native else [0] * dims
            return self._time(
                label, [shape], lambda x: _POOL[dims](x if native else F.pad(x, pads), taps, stride, before)
            )
        if m.kind == "transposed":
            kernel = (m.cols, m.rows // m.groups, *taps)
            extra = [a.lo - a.hi for a in window]
            lows = [a.lo for a in window]
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
        def measure() -> float:
            tensors = [torch.randn(shape, device=self._device, dtype=self._dtype) for shape in shapes]
            with torch.no_grad():
                return _median(lambda: run(*tensors), self._device)

        return self.taken(f"{self._place} | {self._dtype} | {label} | {shapes}", measure)


def _linear(x: Tensor, weight: Tensor, axis: int, groups: int) -> Tensor:
    """A Linear over `axis`; in groups, side by side."""
    moved = x.movedim(axis, -1)
    if groups == 1:
        return F.linear(moved, weight).movedim(-1, axis)
    parts = moved.reshape(*moved.shape[:-1], groups, 1, -1)
    joined = parts @ weight.reshape(groups, -1, weight.shape[1]).mT
    return joined.flatten(-3).movedim(-1, axis)


def _executes(m: Map) -> int:
    """The operators of a term that `_term` times itself."""
    if m.kind in ("identity", "scalar"):
        return 0
    if m.kind == "select":
        return 0 if is_slice(m.index or ()) else 1
    uneven = any(a.lo != a.hi or a.lo < 0 for a in m.window)
    return 2 if uneven and m.kind == "conv" else 1


def _median(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, a GPU's work included."""

    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return median_seconds(run, ROUNDS, LEAST, settle)
