"""``bench dynamic``: is the way of execution that a dynamic layer chooses the best one, and what does it cost?

One CondConv layer, its routing included, beside ``nn.Conv2d`` of the same arguments and timm's ``CondConv2d``.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from convfold.cost.training import training_step
from convfold.dynamic import CondConv2d
from convfold.studies.bench.dynamic_timm import timm_layer
from convfold.studies.timing import Ratio, one_thread, paired, ratio

__all__ = ["Case", "DynamicResult", "DynamicSetting", "bench_dynamic", "candidates", "cases", "peaks"]

KINDS = ("dense", "depthwise", "1x1")
PASSES = ("forward", "training")
# What one look shows to take half as long again as the best is not measured further.
NEAR = 1.5
FIRST_LOOK = 3
SLACK = 0.05  # what the choice may cost beyond the spread of the control


@dataclass(frozen=True)
class Case:
    """One layer of C to C channels and its input (batch, C, size, size): 3x3 with padding 1, or 1x1."""

    kind: str
    channels: int
    size: int
    batch: int
    experts: int

    @property
    def arguments(self) -> dict[str, Any]:
        """Of a convolution: in_channels, out_channels, kernel_size and the rest."""
        kernel = 1 if self.kind == "1x1" else 3
        groups = self.channels if self.kind == "depthwise" else 1
        same = {"in_channels": self.channels, "out_channels": self.channels, "kernel_size": kernel}
        return {**same, "padding": kernel // 2, "groups": groups}

    def __str__(self) -> str:
        return f"{self.kind} {self.channels}x{self.size}x{self.size}, batch {self.batch}, K {self.experts}"


@dataclass(frozen=True)
class DynamicSetting:
    """The grid of cases, in order, and how often each is measured."""

    kinds: tuple[str, ...] = KINDS
    channels: tuple[int, ...] = (32, 128)
    sizes: tuple[int, ...] = (14, 56)
    batches: tuple[int, ...] = (1, 8, 32)
    experts: tuple[int, ...] = (4, 8)
    rounds: int = 15

    @classmethod
    def quick(cls) -> DynamicSetting:
        """Small, for a first look."""
        return cls(channels=(32,), sizes=(14,), batches=(1, 8), experts=(4,), rounds=5)


def cases(setting: DynamicSetting) -> Iterator[Case]:
    """Every case of the grid."""
    for values in product(setting.kinds, setting.channels, setting.sizes, setting.batches, setting.experts):
        yield Case(*values)


@dataclass(frozen=True)
class DynamicResult:
    """One case in one pass: "forward" without gradients, or "training", forward and backward.

    `best` is the fastest of the ways set by hand, `choice` is auto over best, `control` is auto over an equal layer in
    auto. `over_static` has every candidate over ``nn.Conv2d``: auto, each way, timm. `peaks` (training) are the most
    bytes that a step holds above weights and input.
    """

    case: Case
    way: str
    static_seconds: float
    best: str
    choice: Ratio
    control: Ratio
    over_static: dict[str, Ratio] = field(repr=False)
    peaks: dict[str, int] = field(default_factory=dict)

    @property
    def allowed(self) -> float:
        """How slow auto may be beside the best: 5 % beyond what the control shows of equal layers."""
        return max(self.control.high, 1 / self.control.low) + SLACK

    @property
    def within(self) -> bool:
        """Whether auto is as fast as the best way, as far as the control can tell."""
        return self.choice.median <= self.allowed

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **asdict(self.case),
            "pass": self.way,
            "static_seconds": self.static_seconds,
            "best": self.best,
            "auto_over_best": self.choice.to_dict(),
            "control": self.control.to_dict(),
            "allowed": self.allowed,
            "within": self.within,
            "over_static": {name: value.to_dict() for name, value in self.over_static.items()},
            "peak_bytes": self.peaks,
        }


def _ways(case: Case) -> list[str]:
    # A product of all taps is the batched product where there is more than one.
    return ["grouped", "whole", "loop", "product" if case.kind == "1x1" else "patches", "feature"]


def candidates(case: Case) -> dict[str, nn.Module]:
    """What is compared, by name; all but static and timm are one layer in different modes."""
    layer = CondConv2d(**case.arguments, num_experts=case.experts)
    made: dict[str, nn.Module] = {"static": nn.Conv2d(**case.arguments)}
    for name in ("auto", "control", *_ways(case)):
        made[name] = twin = copy.deepcopy(layer)
        twin.mode = "auto" if name == "control" else name
    timm = timm_layer(case.arguments, case.experts)
    return made if timm is None else {**made, "timm": timm}


def _work(layer: nn.Module, x: Tensor, direction: Tensor | None) -> Callable[[], object]:
    if direction is None:

        def forward() -> Tensor:
            with torch.no_grad():
                return layer(x)  # type: ignore[no-any-return]

        return forward
    wanted = [x, *layer.parameters()]
    return lambda: torch.autograd.grad(layer(x), wanted, direction)


class _Behind(nn.Module):
    """A layer inside a network: its input has a gradient too."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.ones(())), layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x * self.scale)  # type: ignore[no-any-return]


def peaks(case: Case) -> dict[str, int]:
    """Peak bytes of a training step: static, auto, and `whole`, the grouped form as published."""
    layer = CondConv2d(**case.arguments, num_experts=case.experts)
    x = torch.empty(case.batch, case.channels, case.size, case.size)
    found = {"static": training_step(_Behind(nn.Conv2d(**case.arguments)), x).peak_bytes}
    for mode in ("auto", "whole"):
        layer.mode = mode
        found[mode] = training_step(_Behind(layer), x).peak_bytes
    return found


def _measure(works: dict[str, Callable[[], object]], rounds: int) -> tuple[dict[str, list[float]], dict[str, Ratio]]:
    """Seconds by round of what is near the best, and the first look's ratios of all to static."""
    look = paired({name: [work] for name, work in works.items()}, FIRST_LOOK, least=0.003, warm=1)
    first = {name: ratio(values, look["static"]) for name, values in look.items()}
    best = min(value.median for name, value in first.items() if name not in ("static", "timm"))
    near = [name for name, value in first.items() if value.median <= NEAR * best]
    kept = dict.fromkeys(("static", "auto", "control", *near))
    return paired({name: [works[name]] for name in kept}, rounds, warm=0), first


def _one(case: Case, way: str, rounds: int) -> DynamicResult:
    training = way == "training"
    x = torch.randn(case.batch, case.channels, case.size, case.size, requires_grad=training)
    direction = torch.randn_like(x.detach()) if training else None
    layers = candidates(case)
    works = {name: _work(layer, x, direction) for name, layer in layers.items()}
    taken, first = _measure(works, rounds)
    over = {**first, **{name: ratio(values, taken["static"]) for name, values in taken.items()}}
    best = min((name for name in _ways(case) if name in taken), key=lambda name: sorted(taken[name])[rounds // 2])
    return DynamicResult(
        case=case,
        way=way,
        static_seconds=sorted(taken["static"])[rounds // 2],
        best=best,
        choice=ratio(taken["auto"], taken[best]),
        control=ratio(taken["auto"], taken["control"]),
        over_static={name: value for name, value in over.items() if name not in ("static", "control")},
        peaks=peaks(case) if training else {},
    )


def bench_dynamic(
    setting: DynamicSetting, seed: int = 0, passes: tuple[str, ...] = PASSES
) -> Iterator[Callable[[], DynamicResult]]:
    """Measurements of the grid to be made, one after the other; torch's random state is left as it was."""
    for case, way in product(cases(setting), passes):

        def run(case: Case = case, way: str = way) -> DynamicResult:
            with one_thread(), torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                result = _one(case, way, setting.rounds)
            gc.collect()
            return result

        yield run
