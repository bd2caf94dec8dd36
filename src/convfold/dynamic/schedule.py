"""When a softmax cools: the temperature of DynamicConv's attention over a training run."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from convfold.errors import InvalidArgument

__all__ = ["TemperatureSchedule"]

_SHAPES = ("linear", "constant", "cosine")


class TemperatureSchedule:
    """Sets the buffer `temperature` of every attention router in `model`, one step after another.

    * "linear":   ``tau(t) = start + (end - start) * t / steps`` until t = steps, `end` after that;
    * "cosine":   ``tau(t) = end + (start - end) * (1 + cos(pi * t / steps)) / 2``;
    * "constant": ``tau(t) = start``.

    Near-uniform attention at the start (a high temperature) lets all experts learn; published: linear, 30 to 1
    over the first 10 epochs (Chen et al., "Dynamic Convolution", CVPR 2020, arXiv 1912.03458). Call `step()`
    after each epoch, or after each iteration with `steps` counted in iterations. The temperature itself is saved with
    the model; the schedule's place by `state_dict()`, as torch's learning-rate schedulers do.

    Raises InvalidArgument for a shape that is unknown, a temperature that is not positive, fewer than one step,
    or a model without such a router.

    >>> from convfold.dynamic import DynamicConv2d
    >>> layer = DynamicConv2d(8, 8, 3)
    >>> schedule = TemperatureSchedule(layer, steps=10)
    >>> for _ in range(5):
    ...     schedule.step()
    >>> float(layer.router.temperature)
    15.5
    """

    def __init__(
        self, model: nn.Module, start: float = 30.0, end: float = 1.0, steps: int = 10, shape: str = "linear"
    ) -> None:
        if shape not in _SHAPES:
            raise InvalidArgument("shape is unknown", got=repr(shape), expected=f"one of {_SHAPES}")
        for name, value in (("start", start), ("end", end)):
            if not value > 0 or math.isinf(value):
                raise InvalidArgument(
                    "a temperature divides, so it is positive", where=name, got=value, expected="a number above 0"
                )
        if steps < 1:
            raise InvalidArgument("a schedule takes at least one step", where="steps", got=steps, expected="1 or more")
        self.model, self.shape = model, shape
        self.start, self.end, self.steps = float(start), float(end), int(steps)
        self.done = 0
        if not self._routers():
            raise InvalidArgument(
                "the model has no attention whose temperature could be set",
                where=type(model).__name__,
                expected="at least one layer as DynamicConv2d",
            )
        self._set()

    def _routers(self) -> list[Any]:
        # By name and kind, and looked for anew at each step: layers may be replaced while training.
        return [m for m in self.model.modules() if isinstance(m._buffers.get("temperature"), torch.Tensor)]

    @property
    def temperature(self) -> float:
        """The temperature of the present step."""
        share = min(self.done / self.steps, 1.0)
        if self.shape == "constant":
            return self.start
        if self.shape == "linear":
            return self.start + (self.end - self.start) * share
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * share)) / 2

    def _set(self) -> None:
        for router in self._routers():
            router.temperature.fill_(self.temperature)

    def step(self) -> None:
        """Go one step on."""
        self.done += 1
        self._set()

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, and what it is."""
        return {name: getattr(self, name) for name in ("start", "end", "steps", "shape", "done")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another schedule stopped, and set the model's temperatures accordingly."""
        for name in ("start", "end", "steps", "shape", "done"):
            setattr(self, name, state[name])
        self._set()

    def __repr__(self) -> str:
        return (
            f"TemperatureSchedule({self.shape}, {self.start:g} -> {self.end:g} in {self.steps} steps, "
            f"at {self.temperature:g} after {self.done})"
        )
