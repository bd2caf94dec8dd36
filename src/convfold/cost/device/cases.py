"""The shapes that are timed: spread evenly over work for each kind of operator, some fitted to, others held out."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.cost.device.work import KINDS, Work, convolution, linear, moving, pooling

__all__ = ["Case", "Values", "cases"]

# Held-out channels and sizes are others than those fitted to, so that no shape of one is one of the other.
_CHANNELS = {
    False: (8, 16, 24, 32, 64, 96, 128, 192, 256, 384, 512),
    True: (12, 20, 40, 48, 80, 112, 160, 240, 320, 480),
}
_SIZES = {False: (7, 10, 14, 20, 28, 40, 56, 80, 112), True: (6, 8, 12, 16, 24, 32, 48, 64, 96)}
_BATCHES = (1, 1, 1, 2, 4, 8)
_KERNELS = {
    "dense": (3, 3, 3, 5, 7),
    "pointwise": (1,),
    "grouped": (3, 3, 1),
    "depthwise": (3, 3, 5, 7),
    "dilated": (3, 3, 5),
    "transposed": (2, 3, 4),
    "pooling": (2, 3, 3),
}
_MACS = (2e4, 3e8)  # of a convolution or a product
_BYTES = (2e4, 2e7)  # of what computes next to nothing
_MOST_BYTES = 48_000_000
_LINE, _SLACK = 16, 4096  # elements
_DRAWS = 60


class Values:
    """Positive random numbers that the tensors of every case are cut from: memory for one case serves them all."""

    def __init__(self, device: torch.device) -> None:
        self._all = torch.rand(_MOST_BYTES // 4 + _SLACK, device=device)
        self._used = 0

    def begin(self) -> None:
        """From here on numbers are given out again."""
        self._used = 0

    def take(self, shape: tuple[int, ...]) -> Tensor:
        """A tensor that begins where a cache line does, as tensors of their own would."""
        start, count = self._used, math.prod(shape)
        self._used += -(-count // _LINE) * _LINE
        return self._all[start : start + count].view(shape)


@dataclass(frozen=True)
class Case:
    """One operator on (batch, inputs, size, size), or on (batch, size, inputs) of a linear map."""

    kind: str
    batch: int
    inputs: int
    outputs: int
    size: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    @property
    def read(self) -> tuple[int, ...]:
        if self.kind == "linear":
            return self.batch, self.size, self.inputs
        return self.batch, self.inputs, self.size, self.size

    @property
    def weight(self) -> tuple[int, ...]:
        if self.kind == "linear":
            return self.outputs, self.inputs
        if self.kind == "transposed":
            return self.inputs, self.outputs // self.groups, self.kernel, self.kernel
        return self.outputs, self.inputs // self.groups, self.kernel, self.kernel

    @property
    def padding(self) -> int:
        return self.dilation * (self.kernel - 1) // 2

    @property
    def written(self) -> tuple[int, ...]:
        if self.kind == "transposed":
            size = (self.size - 1) * self.stride - 2 * self.padding + self.kernel
        else:
            size = (self.size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1
        return self.batch, self.outputs, size, size

    @property
    def work(self) -> Work:
        """What it asks of the machine."""
        if self.kind == "linear":
            return linear(self.read, self.weight)
        if self.kind == "pooling":
            return pooling(self.read, self.written, self.kernel**2)
        if self.kind in ("norm", "elementwise"):
            elements = math.prod(self.read)
            return moving(self.kind, elements * (2 if self.kind == "elementwise" else 1), elements)
        return convolution(
            self.read,
            self.weight,
            self.written,
            self.groups,
            dilation=(self.dilation,),
            transposed=self.kind == "transposed",
        )

    def make(self, values: Values) -> Callable[[], object]:
        """The call, eager, over tensors of these values."""
        values.begin()
        x = values.take(self.read)
        if self.kind == "elementwise":
            y = values.take(self.read)
            return lambda: torch.add(x, y)
        if self.kind == "norm":
            one, other = values.take((self.inputs,)), values.take((self.inputs,))
            return lambda: F.batch_norm(x, one, other, other, one)
        if self.kind == "pooling":
            return lambda: F.avg_pool2d(x, self.kernel, self.stride, self.padding)
        weight, bias = values.take(self.weight), values.take((self.outputs,))
        if self.kind == "linear":
            return lambda: F.linear(x, weight, bias)
        if self.kind == "transposed":
            return lambda: F.conv_transpose2d(x, weight, bias, self.stride, self.padding, groups=self.groups)
        return lambda: F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def cases(count: int, *, held_out: bool, kinds: tuple[str, ...] = KINDS, scale: float = 1.0) -> list[Case]:
    """`count` cases of each kind, their work spread evenly on a logarithmic scale; always the same ones.

    `scale` makes the largest smaller (or larger): a tenth for a quick look.
    """
    found = []
    for kind in kinds:
        draw = random.Random(f"{kind} {held_out}")
        computes = kind not in ("pooling", "norm", "elementwise")
        low, high = _MACS if computes else _BYTES
        step = math.log(high * scale / low) / count
        taken: set[Case] = set()
        for place in range(count):
            target = math.log(low) + (place + draw.random()) * step

            def off(case: Case, target: float = target, computes: bool = computes) -> float:
                work = case.work
                return abs(math.log(work.macs if computes else work.bytes) - target)

            drawn = (_drawn(kind, held_out, draw) for _ in range(_DRAWS))
            fits = [case for case in drawn if case not in taken and case.work.bytes <= _MOST_BYTES]
            taken.add(min(fits, key=off))
        found += sorted(taken, key=lambda case: case.work.bytes)
    return found


def _drawn(kind: str, held_out: bool, draw: random.Random) -> Case:
    channels = _CHANNELS[held_out]
    inputs, outputs, size = draw.choice(channels), draw.choice(channels), draw.choice(_SIZES[held_out])
    batch, kernel = draw.choice(_BATCHES), draw.choice(_KERNELS.get(kind, (1,)))
    stride, dilation, groups = draw.choice((1, 1, 1, 2)), 1, 1
    if kind == "linear":
        return Case(kind, batch, inputs * draw.choice((1, 4)), outputs, draw.choice((1, 1, size * size)))
    if kind in ("norm", "elementwise"):
        return Case(kind, batch, inputs, inputs, size)
    if kind == "pooling":
        return Case(kind, batch, inputs, inputs, size, kernel, draw.choice((1, 2)))
    if kind == "pointwise":
        stride = draw.choice((1, 1, 1, 1, 1, 2))
    elif kind == "depthwise":
        outputs = groups = inputs
    elif kind == "grouped":
        groups = draw.choice([g for g in (2, 4, 8, 16, 32) if inputs % g == outputs % g == 0 and g < inputs] or [2])
    elif kind == "dilated":
        stride, dilation = 1, draw.choice((2, 2, 3, 4))
    elif kind == "transposed":
        stride = draw.choice((1, 2, 2))
    return Case(kind, batch, inputs, outputs, size, kernel, stride, dilation, groups)
