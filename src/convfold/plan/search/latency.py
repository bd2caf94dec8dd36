"""The price in seconds: every kind of definition timed once on the user's own machine, and remembered.

Where `convfold bench device` has measured that machine, what is sure to lose is told from that and never timed.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from convfold.cost.roofline import ALL, Device, stored
from convfold.graph.program import Concat, Linear, Node, Opaque, Program, Spatial
from convfold.plan.search.operators import Alone, concatenated, elementwise, executes, term
from convfold.plan.search.price import FREE, Price, price
from convfold.plan.search.state import Defined
from convfold.plan.search.timings import LEAST, ROUNDS, Timings, median_seconds

__all__ = ["Stopwatch"]


class Stopwatch(Timings):
    """Prices with seconds: the operators of each definition run alone, eagerly, on `device` in `dtype`.

    A time is the median of several rounds, rounded to two digits, so that noise decides nothing. Times are kept
    by operator, shapes, precision, device, number of threads and version of torch in the file `cache`.

    `measured` is what is known of the device: by default what `convfold.cost.roofline.stored` finds. With it `foreseen`
    refuses without timing, and what cannot be run on its own, for want of memory, lasts as long as predicted.
    """

    def __init__(
        self, device: torch.device, dtype: torch.dtype, cache: Path | None = None, measured: Device | None = None
    ) -> None:
        super().__init__(cache)
        self._device, self._dtype = device, dtype
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
        self._place = f"{name or platform.machine()} {device.type} {torch.get_num_threads()} {torch.__version__}"
        self._measured = stored(device, dtype) if measured is None else measured

    def __call__(self, program: Program, number: int, node: Node, original: bool) -> Price:
        """`price` with the seconds that the definition takes."""
        return self._priced(program, (number, node, original), self._time)

    def foreseen(self, program: Program, new: Sequence[Defined], old: Sequence[Defined]) -> Price | None:
        """The difference that `new` definitions in place of `old` ones make where they are sure to take longer.

        Sure is what still holds when both predictions are off by the factor that one held-out shape in ten exceeded,
        the new one too long and the old one too short. None where it does not, or nothing is known of the device.
        """
        if self._measured is None:
            return None
        costs, saves = FREE, FREE
        for defined in new:
            costs = costs.plus(self._priced(program, defined, self._predicted))
        for defined in old:
            saves = saves.plus(self._priced(program, defined, self._predicted))
        sure = costs.seconds > saves.seconds * self._measured.errors[ALL].most ** 2
        return costs.minus(saves) if sure else None

    def _priced(self, program: Program, defined: Defined, seconds_of: Callable[[Alone], float]) -> Price:
        number, node, original = defined
        counted = price(program, number, node, original)
        return counted._replace(seconds=sum(map(seconds_of, self._operators(program, number, node, counted.operators))))

    def _operators(self, program: Program, number: int, node: Node, count: int) -> list[Alone]:
        """What a definition of so many operators executes."""
        shape = program.values[number].shape
        if isinstance(node, Opaque) or (isinstance(node, Spatial) and node.free) or count == 0:
            return []
        if isinstance(node, Concat):
            return [concatenated([program.values[piece].shape for piece in node.pieces], node.axis)]
        if isinstance(node, Linear):
            terms = [term(program.values[t.source].shape, t.map, self._device) for t in node.terms]
            others = count - sum(executes(t.map) for t in node.terms)
            return [alone for alone in terms if alone is not None] + others * [elementwise(shape)]
        return [elementwise(shape if not isinstance(node, Spatial) else program.values[node.source].shape)]

    def _predicted(self, alone: Alone) -> float:
        assert self._measured is not None
        return self._measured.predict(alone.work)

    def _time(self, alone: Alone) -> float:
        def measure() -> float:
            tensors = [torch.randn(shape, device=self._device, dtype=self._dtype) for shape in alone.shapes]
            with torch.no_grad():
                return _median(lambda: alone.run(*tensors), self._device)

        key = f"{self._place} | {self._dtype} | {alone.label} | {list(alone.shapes)}"
        try:
            return self.taken(key, measure)
        except (RuntimeError, MemoryError):
            if self._measured is None:
                raise
            return self._predicted(alone)


def _median(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one call, a GPU's work included."""

    def settle() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return median_seconds(run, ROUNDS, LEAST, settle)
