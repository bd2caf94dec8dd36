"""What each network costs: counted, and timed in turns so that a noisy machine disturbs all alike."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from convfold.cost import cost
from convfold.studies.timing import one_thread, paired, ratio

__all__ = ["Latency", "count", "latencies"]

CONTROL_NAME = "the reference again"
# Seconds per measurement: long against the clock's resolution, short against a machine's moods.
LEAST = 0.006


@dataclass(frozen=True)
class Latency:
    """Median CPU time of one forward in milliseconds; its ratio to the reference, median and quartiles.

    The ratio is taken round by round, so that drift of the machine cancels.
    """

    milliseconds: float
    ratio: float
    low: float
    high: float


def count(model: nn.Module, images: Tensor) -> dict[str, int]:
    """MACs, parameters and weight bytes of one forward on `images`."""
    report = cost(model, images)
    return {"macs": report.macs, "params": report.params, "weight_bytes": report.weight_bytes}


def latencies(
    models: dict[str, nn.Module], reference: str, images: Tensor, rounds: int
) -> tuple[dict[str, Latency], Latency]:
    """Time every model in turns, in CPU time and on one thread; ratios refer to the model `reference`.

    The second value is the control: a copy of the reference timed as one more model. What its ratio
    deviates from 1 is noise.
    """

    def twins(model: nn.Module) -> list[Callable[[], object]]:
        # Two copies, because where a copy lies in memory is chance too.
        return [partial(copy.deepcopy(model), images) for _ in range(2)]

    timed = {**models, CONTROL_NAME: models[reference]}
    with one_thread(), torch.inference_mode():
        taken = paired({name: twins(model) for name, model in timed.items()}, rounds, LEAST)
    found = {}
    for name, seconds in taken.items():
        against = ratio(seconds, taken[reference])
        found[name] = Latency(1000 * statistics.median(seconds), against.median, against.low, against.high)
    return found, found.pop(CONTROL_NAME)
