"""``bench fold``: is the folded block the plain convolution in time, in operators and in value?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from convfold.blocks import Block
from convfold.errors import InvalidArgument
from convfold.studies.bench.layers import block_as, plain_layer
from convfold.studies.timing import Ratio, one_thread, paired, ratio

__all__ = ["FoldResult", "FoldSetting", "bench_fold", "executed", "fold_errors", "randomised"]

TWINS = 3
# What is timed many times as long as the reference needs fewer rounds for the same precision.
WIDE_ROUNDS = 5


@dataclass(frozen=True)
class FoldSetting:
    """One 3x3 convolution, padding 1: its channels, the size of its square input, and the batch."""

    channels: int = 64
    size: int = 56
    batch: int = 4
    rounds: int = 61

    @classmethod
    def quick(cls) -> FoldSetting:
        """Small, for a first look."""
        return cls(channels=16, size=28, batch=2, rounds=21)


@dataclass(frozen=True)
class FoldResult:
    """One block, in eval mode; wide is its feature mode.

    `folded` and `control` are latencies relative to a plain convolution, `wide` relative to the folded
    block. Errors are ``max |y - truth| / max |truth|``, truth being the wide block in float64: of the
    folded block in float64, of the folded block in float32, and of the wide block itself in float32.
    """

    block: str
    folded: Ratio
    control: Ratio
    wide: Ratio
    error_float64: float
    error_float32: float
    wide_error_float32: float
    same_operators: bool
    operators: tuple[str, ...] = field(repr=False)

    @property
    def within_control(self) -> bool:
        """Whether folded / plain lies between the quartiles of plain / plain."""
        return self.control.holds(self.folded.median)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        ratios = {name: getattr(self, name).to_dict() for name in ("folded", "control", "wide")}
        return {
            "block": self.block,
            **ratios,
            "folded_within_control": self.within_control,
            "error_float64": self.error_float64,
            "error_float32": self.error_float32,
            "wide_error_float32": self.wide_error_float32,
            "same_operators": self.same_operators,
            "operators": list(self.operators),
        }


def randomised(block: Block, generator: torch.Generator) -> Block:
    """Give `block` the state of no particular moment of training, in place; eval mode, feature mode.

    Kernels are disturbed, per-channel parameters (biases, gammas of either sign) and running means are
    normal, running variances lie in [0.2, 3].
    """
    with torch.no_grad():
        for parameter in block.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.copy_(noise if parameter.dim() == 1 else parameter + 0.1 * noise)
        for module in block.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.2, 3, generator=generator)
    # In kernel mode the wide block would be the fold it is compared with.
    block.mode = "feature"
    return block.eval()


def _error(y: Tensor, truth: Tensor) -> float:
    return float((y.double() - truth).abs().max() / truth.abs().max())


def fold_errors(block: Block, x: Tensor) -> tuple[float, float, float]:
    """Errors of folded float64, folded float32 and wide float32, for a float32 block in feature mode."""
    exact = copy.deepcopy(block).double()
    truth = exact(x.double())
    return _error(exact.fold()(x.double()), truth), _error(block.fold()(x), truth), _error(block(x), truth)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}

        def show(leaf: object) -> object:
            return f"{leaf.dtype}{list(leaf.shape)}{leaf.stride()}" if isinstance(leaf, Tensor) else leaf

        self.operators.append(f"{func}{tree_map(show, args)}{tree_map(show, kwargs)}")
        return func(*args, **kwargs)


def executed(model: nn.Module, x: Tensor) -> tuple[str, ...]:
    """Every operator that ``model(x)`` executes, with its arguments; tensors by type, shape and strides."""
    with _Recorder() as recorder:
        model(x)
    return tuple(recorder.operators)


def _plain(folded: nn.Conv2d) -> nn.Conv2d:
    """A convolution that never was anything else, of the same arguments and values."""
    plain = nn.Conv2d(
        folded.in_channels,
        folded.out_channels,
        folded.kernel_size,
        stride=folded.stride,
        padding=folded.padding,
        dilation=folded.dilation,
        groups=folded.groups,
        bias=folded.bias is not None,
        padding_mode=folded.padding_mode,
    )
    plain.load_state_dict(folded.state_dict())
    return plain.eval()


def _calls(models: Sequence[nn.Module], x: Tensor) -> list[Callable[[], Tensor]]:
    return [lambda model=model: model(x) for model in models]


def _one(name: str, setting: FoldSetting, seed: int) -> FoldResult:
    generator = torch.Generator().manual_seed(seed)
    channels = setting.channels
    wide = [randomised(block_as(name, plain_layer(name, channels, bias=True)), generator) for _ in range(TWINS)]
    folded = [block.fold() for block in wide]
    if not isinstance(folded[0], nn.Conv2d):
        raise InvalidArgument("it does not fold to one convolution", where=name, got=type(folded[0]).__name__)
    plain, control = [_plain(f) for f in folded], [_plain(f) for f in folded]
    x = torch.randn(setting.batch, channels, setting.size, setting.size, generator=generator)
    odd = torch.randn(2, channels, 17, 14, generator=generator)
    works = {"plain": _calls(plain, x), "control": _calls(control, x), "folded": _calls(folded, x)}
    close = paired(works, setting.rounds)
    far = paired({"folded": _calls(folded, x), "wide": _calls(wide, x)}, WIDE_ROUNDS)
    errors = fold_errors(wide[0], odd)
    operators = executed(folded[0], x)
    return FoldResult(
        block=name,
        folded=ratio(close["folded"], close["plain"]),
        control=ratio(close["control"], close["plain"]),
        wide=ratio(far["wide"], far["folded"]),
        error_float64=errors[0],
        error_float32=errors[1],
        wide_error_float32=errors[2],
        same_operators=operators == executed(plain[0], x),
        operators=operators,
    )


def bench_fold(block: str, setting: FoldSetting, seed: int = 0) -> FoldResult:
    """Measure a block, built with its defaults and random batch statistics, against a plain convolution.

    Raises UnknownName for a name that is no block, and what the block raises where it cannot be built.
    """
    with one_thread(), torch.inference_mode():
        return _one(block, setting, seed)
