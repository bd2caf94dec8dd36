"""What random programs are made of: steps by name, and the modules that run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["INPLACE", "RUN", "Like", "Part", "ScaledNorm", "Step", "nested"]


class ScaledNorm(nn.BatchNorm2d):
    """A subclass of a batch normalisation that changes nothing, as libraries have many."""


class Like(nn.Module):
    """A step of RUN as a module of its own: of its second argument it reads the size alone."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        return RUN[self.kind](x, like)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Step:
    """``results = RUN[kind](*sources, *held, *options)``; `held` are names of modules and tensors of the model."""

    kind: str
    sources: tuple[int, ...]
    results: tuple[int, ...]
    held: tuple[str, ...] = ()
    options: tuple[Any, ...] = ()
    label: str = ""

    def __str__(self) -> str:
        results, sources = (", ".join(f"v{i}" for i in numbers) for numbers in (self.results, self.sources))
        rest = ", ".join([sources, *self.held, *map(repr, self.options)])
        return f"{results} = {self.kind}({rest})"


def _norm(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    return F.batch_norm(x, mean, variance, weight, bias, False, 0.1, 1e-3)


def _tokens_norm(x: Tensor, norm: nn.Module) -> Tensor:
    return norm(x.flatten(0, 1)).reshape_as(x)  # type: ignore[no-any-return]


def _shuffle(x: Tensor, groups: int) -> Tensor:
    n, channels, height, width = x.shape
    return x.view(n, groups, channels // groups, height, width).transpose(1, 2).reshape(n, channels, height, width)


def _tile(x: Tensor, weight: Tensor) -> Tensor:
    return x * weight.view(1, -1, 1, 1)


RUN: dict[str, Callable[..., Any]] = {
    "module": lambda *given: given[-1](*given[:-1]),
    "conv2d": F.conv2d,
    "linear": F.linear,
    "batch_norm": _norm,
    "tokens_norm": _tokens_norm,
    # sums and per-channel factors; a held tensor is shaped for its layout
    "add": lambda a, b: a + b,
    "add alpha": lambda a, b, alpha: torch.add(a, b, alpha=alpha),
    "sub": lambda a, b: a - b,
    "iadd": lambda a, b: a.add_(b),
    "isub": lambda a, b: a.sub_(b, alpha=0.5),
    "mul": lambda a, b: a * b,
    "imul": lambda a, b: a.mul_(b),
    "div": lambda a, b: a / b,
    "tile": _tile,
    "rsub": lambda a, number: number - a,
    "neg": torch.neg,
    # nonlinear
    "relu": F.relu,
    "relu_": F.relu_,
    "silu": F.silu,
    "gelu": F.gelu,
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "max_pool": lambda x: F.max_pool2d(x, 3, 1, 1),
    "gate": lambda x, v: x * torch.sigmoid(v).unsqueeze(-1).unsqueeze(-1),
    "softmax": lambda x: x.softmax(1),
    # pieces of channels
    "cat": lambda *given: torch.cat(given, 1),
    "cat last": lambda *given: torch.cat(given, -1),
    "chunk": lambda x, count: x.chunk(count, 1),
    "split": lambda x, sizes: x.split(list(sizes), 1),
    "slice": lambda x, low, high, step: x[:, low:high:step],
    "select": lambda x, index: x.index_select(1, index),
    "gather": lambda x, index: x[:, index],
    "shuffle": _shuffle,
    "flip": lambda x: x.flip(1),
    "roll": lambda x, by: x.roll(by, 1),
    # space
    "pad": lambda x, pads, mode, value: F.pad(x, pads, mode, value),
    "avg_pool": lambda x, kernel, stride, padding, ceil, include, divisor: F.avg_pool2d(
        x, kernel, stride, padding, ceil, include, divisor
    ),
    "adaptive_pool": lambda x, size: F.adaptive_avg_pool2d(x, size),
    "pixel_shuffle": F.pixel_shuffle,
    "pixel_unshuffle": F.pixel_unshuffle,
    "upsample": lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    "crop": lambda x, low, high: x[:, :, low : x.shape[2] - high, low : x.shape[3] - high],
    "crop like": lambda x, like: x[:, :, : like.shape[2], : like.shape[3]],
    "resize like": lambda x, like: F.interpolate(x, like.shape[2:]),
    "stride": lambda x, step: x[:, :, ::step, ::step],
    # layouts
    "regroup": lambda x, groups: x.unflatten(1, (groups, x.shape[1] // groups)).flatten(1, 2),
    "to last": lambda x: x.permute(0, 2, 3, 1),
    "from last": lambda x: x.permute(0, 3, 1, 2),
    "to tokens": lambda x: x.flatten(2).transpose(1, 2),
    "from tokens": lambda x, height, width: x.transpose(1, 2).reshape(x.shape[0], -1, height, width),
    "mean": lambda x, keep: x.mean((2, 3), keepdim=keep),
    "pool flat": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "tokens mean": lambda x: x.mean(1),
    "flatten": lambda x: x.flatten(1),
    "to map": lambda x: x[:, :, None, None],
    "squeeze": lambda x: x.flatten(1),
}
INPLACE = frozenset({"iadd", "isub", "imul", "relu_"})


class Part(nn.Module):
    """Runs `steps` on the values numbered `inputs` and returns those numbered `outputs`, alone, or as `form`."""

    def __init__(
        self,
        steps: Sequence[Step],
        held: dict[str, nn.Module | Tensor],
        inputs: Sequence[int],
        outputs: Sequence[int],
        form: str = "tuple",
    ) -> None:
        super().__init__()
        self.steps, self.inputs, self.outputs, self.form = tuple(steps), tuple(inputs), tuple(outputs), form
        for name in dict.fromkeys(name for step in steps for name in step.held):
            thing = held[name]
            if isinstance(thing, (nn.Module, nn.Parameter)):
                setattr(self, name, thing)
            else:
                self.register_buffer(name, thing)

    def forward(self, *given: Tensor) -> Any:
        values: dict[int, Any] = dict(zip(self.inputs, given, strict=True))
        for step in self.steps:
            sources = [values[number] for number in step.sources]
            found = RUN[step.kind](*sources, *(getattr(self, name) for name in step.held), *step.options)
            several = isinstance(found, (tuple, list))
            values.update(zip(step.results, found if several else (found,), strict=True))
        results = tuple(values[number] for number in self.outputs)
        if self.form == "dict":
            return {f"out{index}": value for index, value in enumerate(results)}
        if self.form == "list":
            return list(results)
        return results if len(results) > 1 else results[0]

    def text(self, indent: str = "") -> str:
        """The program, one step per line, inner parts indented."""
        lines = [f"{indent}inputs {', '.join(f'v{i}' for i in self.inputs)}"]
        for step in self.steps:
            lines.append(f"{indent}{step}")
            for name in step.held:
                thing = getattr(self, name)
                inner = thing.text(f"{indent}    ") if isinstance(thing, Part) else _shown(thing)
                lines += [inner if isinstance(thing, Part) else f"{indent}    {name}: {inner}"]
        return "\n".join([*lines, f"{indent}outputs {', '.join(f'v{i}' for i in self.outputs)} as {self.form}"])


def _shown(thing: nn.Module | Tensor) -> str:
    return f"tensor {list(thing.shape)}" if isinstance(thing, Tensor) else " ".join(repr(thing).split())


def nested(
    steps: Sequence[Step],
    held: dict[str, nn.Module | Tensor],
    inputs: Sequence[int],
    outputs: Sequence[int],
    cuts: Sequence[int],
) -> tuple[list[Step], dict[str, nn.Module | Tensor]]:
    """The same program with the steps between each two `cuts` in a module of its own."""
    held = dict(held)
    whole: list[Step] = []
    bounds = [*cuts, len(steps)]
    for index, (low, high) in enumerate(pairwise(bounds)):
        inside = steps[low:high]
        made = {number for step in inside for number in step.results}
        read = [number for step in inside for number in step.sources if number not in made]
        after = {number for step in steps[high:] for number in step.sources} | set(outputs)
        results = tuple(sorted(made & after))
        if not results:
            whole += inside
            continue
        sources = tuple(dict.fromkeys(read))
        held[f"part{index}"] = Part(inside, held, sources, results)
        whole.append(Step("module", sources, results, (f"part{index}",)))
    return [*steps[: cuts[0]], *whole], held
