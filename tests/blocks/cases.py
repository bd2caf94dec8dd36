"""Random configurations: the arguments of nn.Conv that every block mirrors, and a size of map that they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from torch import Tensor, nn

from convfold import blocks
from support.make import randomise

__all__ = ["CONVS", "Case", "cases", "normal", "plain"]

CONVS = {0: nn.Linear, 1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
Options = Callable[[DrawFn, tuple[int, ...]], dict[str, Any]]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@dataclass(frozen=True)
class Case:
    """One configuration of one block; `folded` are arguments in which its folded convolution differs from it."""

    block: str
    dims: int
    arguments: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, ...] = ()
    seed: int = 0
    dtype: torch.dtype = torch.float64
    folded: dict[str, Any] = field(default_factory=dict)

    @property
    def whole(self) -> dict[str, Any]:
        """The arguments of the one convolution that the block is."""
        return {**self.arguments, **self.folded}

    def build(self) -> Any:
        """The block in eval mode, every parameter and statistic at random."""
        module = self.fresh()
        return randomise(module, torch.Generator().manual_seed(self.seed)).eval()

    def fresh(self, **more: Any) -> Any:
        """The block as its constructor leaves it."""
        return blocks.build(self.block, self.dims, **self.arguments, **self.options, **{"dtype": self.dtype, **more})

    def input(self, batch: int = 2) -> Tensor:
        channels = self.arguments["in_features" if self.dims == 0 else "in_channels"]
        return normal(batch, channels, *self.size, seed=self.seed + 1, dtype=self.dtype)


def plain(case: Case, bias: bool) -> Any:
    """The convolution that the block should fold to, built by torch itself."""
    return CONVS[case.dims](**{**case.whole, "bias": bias}, dtype=case.dtype)


def _padding(draw: DrawFn, dims: int, stride: tuple[int, ...]) -> Any:
    kind = draw(st.sampled_from(["numbers"] * 4 + ["same", "valid"]))
    if kind == "same" and all(s == 1 for s in stride):
        return "same"
    if kind == "valid":
        return "valid"
    return tuple(draw(st.integers(0, 3 if dims < 3 else 2)) for _ in range(dims))


@st.composite
def cases(draw: DrawFn, block: str, dims: int, options: Options, kernels: st.SearchStrategy[Any] | None = None) -> Case:
    """Any stride, dilation, groups, padding and padding mode; even and non-square kernels; odd sizes."""
    longest = {1: 7, 2: 5, 3: 3}[dims]
    kernel = draw(st.tuples(*[st.integers(1, longest)] * dims) if kernels is None else kernels)
    stride = draw(st.tuples(*[st.sampled_from([1, 1, 1, 2, 3])] * dims))
    dilation = draw(st.tuples(*[st.sampled_from([1, 1, 1, 2, 3])] * dims))
    kind = draw(st.sampled_from(["dense", "dense", "equal", "grouped", "depthwise", "multiplier", "merging"]))
    groups = 1 if kind in ("dense", "equal") else draw(st.integers(2, 3))
    inside = 1 if kind in ("depthwise", "multiplier") else draw(st.integers(1, 3))
    outside = {"equal": inside, "depthwise": 1, "multiplier": 2, "merging": 1}.get(kind) or draw(st.integers(1, 3))
    padding = _padding(draw, dims, stride)
    arguments = {
        "in_channels": groups * inside,
        "out_channels": groups * outside,
        "kernel_size": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding_mode": draw(st.sampled_from(["zeros", "zeros", "zeros", "reflect", "replicate", "circular"])),
    }
    size = []
    for axis in range(dims):
        span = dilation[axis] * (kernel[axis] - 1) + 1
        pads = {"same": span, "valid": 0}.get(padding, 0) if isinstance(padding, str) else padding[axis]
        inner = 0 if isinstance(padding, str) and padding == "same" else 2 * pads
        # Reflection takes a map that is larger than its padding.
        least = max(1, pads + 1, span - inner)
        size.append(least + draw(st.integers(0, 4)))
    return Case(block, dims, arguments, options(draw, kernel), tuple(size), draw(st.integers(0, 2**16)))
