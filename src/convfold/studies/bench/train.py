"""``bench train``: what a training step of a block costs, against plain convolution, BN and ReLU."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from convfold.blocks import find
from convfold.studies.bench.layers import block_as, has_statistics, plain_layer
from convfold.studies.timing import Ratio, one_thread, paired, ratio

__all__ = ["Arm", "TrainResult", "TrainSetting", "arms_of", "bench_train", "network", "peak_bytes", "step_of"]

CLASSES = 10


@dataclass(frozen=True)
class TrainSetting:
    """A stack of layers of equal width (3x3 unless the block asks otherwise), a linear head, cross-entropy, SGD."""

    layers: int = 6
    channels: int = 64
    size: int = 32
    batch: int = 32
    rounds: int = 9

    @classmethod
    def quick(cls) -> TrainSetting:
        """Small, for a first look; Python's share of a step is larger here than in earnest."""
        return cls(layers=2, channels=32, size=16, batch=16, rounds=5)


@dataclass(frozen=True)
class Arm:
    """A block with its options and the mode it is trained in."""

    block: str
    mode: str
    norm: str | None = None

    @property
    def label(self) -> str:
        """``doconv, kernel`` or ``dbb (scale), kernel``."""
        return f"{self.block}{f' ({self.norm})' if self.norm else ''}, {self.mode}"


@dataclass(frozen=True)
class TrainResult:
    """One arm: CPU time and peak memory of a training step, relative to plain; `control` is plain / plain.

    Peak memory is the most bytes that tensors of the step (weights, gradients, optimiser state, what
    backward keeps) take together; scratch space inside an operator is not seen.
    """

    arm: Arm
    time: Ratio
    control: Ratio
    memory: float
    plain_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "block": self.arm.block,
            "norm": self.arm.norm,
            "mode": self.arm.mode,
            "time": self.time.to_dict(),
            "control": self.control.to_dict(),
            "memory": self.memory,
            "plain_seconds": self.plain_seconds,
        }


def arms_of(name: str) -> list[Arm]:
    """The ways to train a block: feature mode, and kernel mode where it needs no batch statistics.

    A block with batch statistics inside has its ``norm="scale"`` form for kernel mode, if it offers one.
    """
    if not has_statistics(block_as(name, plain_layer(name, 8, bias=False))):
        return [Arm(name, "feature"), Arm(name, "kernel")]
    scaled = [Arm(name, "kernel", "scale")] if "norm" in inspect.signature(find(name, 2)).parameters else []
    return [Arm(name, "feature"), *scaled]


def _layer(arm: Arm, channels: int, plain: bool) -> list[nn.Module]:
    after = [nn.BatchNorm2d(channels), nn.ReLU()]
    layer = plain_layer(arm.block, channels, bias=False)
    if plain:
        return [layer, *after]
    block = block_as(arm.block, layer, **({"norm": arm.norm} if arm.norm else {}))
    block.mode = arm.mode
    return [block, *(after[1:] if find(arm.block, 2).has_norm and has_statistics(block) else after)]


def network(arm: Arm, setting: TrainSetting, plain: bool = False) -> nn.Module:
    """The network of an arm, in training mode; `plain` has the convolution that the block stands for."""
    layers = [module for _ in range(setting.layers) for module in _layer(arm, setting.channels, plain)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(setting.channels, CLASSES)]
    return nn.Sequential(*layers, *head).train()


def step_of(model: nn.Module, setting: TrainSetting) -> Callable[[], None]:
    """One training step: forward, cross-entropy, backward, SGD with momentum."""
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    x = torch.randn(setting.batch, setting.channels, setting.size, setting.size)
    target = torch.randint(CLASSES, (setting.batch,))

    def step() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(x), target).backward()
        optimiser.step()

    return step


class _Peak(TorchDispatchMode):
    """Bytes of the tensors alive at once, among those made while active."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0

    def _free(self, size: int) -> None:
        self.alive -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            # A view or an in-place result is memory that an argument has already.
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                self._note(leaf.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, size)


def peak_bytes(model: nn.Module, step: Callable[[], None]) -> int:
    """Most bytes that the weights and everything a step makes take at once; two steps, for the momentum."""
    held = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    with _Peak() as peak:
        step()
        step()
    return held + peak.peak


def _one(arm: Arm, setting: TrainSetting) -> TrainResult:
    models = {name: network(arm, setting, plain=name != "arm") for name in ("plain", "control", "arm")}
    steps = {name: step_of(model, setting) for name, model in models.items()}
    peaks = {name: peak_bytes(models[name], steps[name]) for name in ("plain", "arm")}
    taken = paired({name: [step] for name, step in steps.items()}, setting.rounds, warm=1)
    return TrainResult(
        arm=arm,
        time=ratio(taken["arm"], taken["plain"]),
        control=ratio(taken["control"], taken["plain"]),
        memory=peaks["arm"] / peaks["plain"],
        plain_seconds=sorted(taken["plain"])[len(taken["plain"]) // 2],
    )


def bench_train(arm: Arm, setting: TrainSetting, seed: int = 0) -> TrainResult:
    """Measure an arm beside two plain networks; torch's random state is left as it was.

    Raises UnknownName for a name that is no block, and what the block raises where it cannot be built.
    """
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _one(arm, setting)
