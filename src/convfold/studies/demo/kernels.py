"""What a fold does to one kernel: the branches that were trained, and the convolution they become."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from convfold.algebra import AvgPool, Chain, Conv, Op, Sum, kernel, text
from convfold.blocks import Block

__all__ = ["KernelView", "Part", "view"]

# Of a chain's many paths through its middle channels, so many are shown; the others are added up.
SHOWN_PATHS = 3


@dataclass(frozen=True)
class Part:
    """One summand of a kernel, for one pair of channels."""

    label: str
    values: list[list[float]]


@dataclass(frozen=True)
class KernelView:
    """Summands, the block's kernel and the folded convolution's, for input and output channel `channel`.

    `mismatch` is the largest difference between the sum of the parts and the kernel, over the kernel's
    largest value; `rescaled` says that a batch normalisation after the block was folded in as well.
    """

    equation: str
    channel: int
    parts: list[Part]
    total: list[list[float]]
    folded: list[list[float]]
    mismatch: float
    rescaled: bool


def view(wide: nn.Module, folded: nn.Module) -> KernelView:
    """Look into the last block of `wide` and the last convolution of `folded`, both in eval mode."""
    block = [module for module in wide.modules() if isinstance(module, Block)][-1]
    after = [module for module in folded.modules() if isinstance(module, nn.Conv2d)][-1]
    with torch.no_grad():
        expression = block.op()
        total = kernel(expression).weight
        # The diagonal, because only there an identity branch is to be seen.
        size = range(min(total.shape[:2]))
        channel = max(size, key=lambda c: _shared([values for _, values in _parts(expression, c)]))
        parts = _parts(expression, channel)
        pair = total[channel, channel]
        added = sum(_framed(values, pair) for _, values in parts)
        largest = float(pair.abs().max()) or 1.0
        return KernelView(
            equation=text(expression),
            channel=channel,
            parts=[Part(label, values.tolist()) for label, values in parts],
            total=pair.tolist(),
            folded=after.weight[channel, channel].tolist(),
            mismatch=float((added - pair).abs().max()) / largest,
            rescaled=not torch.allclose(pair, after.weight[channel, channel], rtol=1e-3, atol=1e-5),
        )


def _shared(parts: list[Tensor]) -> float:
    """How much of a kernel is not in its largest part."""
    norms = sorted(float(part.norm()) for part in parts)
    return sum(norms[:-1])


def _parts(expression: Op, channel: int) -> list[tuple[str, Tensor]]:
    if isinstance(expression, Sum):
        return [_branch(term, channel) for term in expression.terms]
    if isinstance(expression, Chain) and isinstance(expression.parts[-1], Conv):
        return _paths(Chain(expression.parts[:-1]), expression.parts[-1], channel)
    return [_branch(expression, channel)]


def _branch(term: Op, channel: int) -> tuple[str, Tensor]:
    stages = term.parts if isinstance(term, Chain) else (term,)
    linear = [text(stage, "").removesuffix("()") for stage in stages if isinstance(stage, Conv | AvgPool)]
    label = " → ".join(linear) or "identity"
    conv = kernel(term)
    group, inner = divmod(channel, conv.weight.shape[1])
    if channel // (conv.weight.shape[0] // conv.groups) != group:
        # The channel is in another group at the output than at the input.
        return label, torch.zeros_like(conv.weight[0, 0])
    return label, conv.weight[channel, inner]


def _paths(first: Op, last: Conv, channel: int) -> list[tuple[str, Tensor]]:
    """Per middle channel of ``first >> last`` (a 1x1 convolution), its part in the composed kernel."""
    before = kernel(first)
    middle_per_group = before.weight.shape[0] // before.groups
    inputs_per_group = before.weight.shape[1]
    group, inner = divmod(channel, inputs_per_group)
    mine = slice(group * middle_per_group, (group + 1) * middle_per_group)
    factors = last.weight[channel, mine].reshape(-1, 1, 1)
    paths = factors * before.weight[mine, inner]
    order = paths.flatten(1).norm(dim=1).argsort(descending=True)
    shown = [(f"path {rank + 1}", paths[index]) for rank, index in enumerate(order[:SHOWN_PATHS].tolist())]
    rest = order[SHOWN_PATHS:]
    if len(rest):
        shown.append((f"{len(rest)} others", paths[rest].sum(0)))
    return shown


def _framed(values: Tensor, like: Tensor) -> Tensor:
    """`values` in the middle of zeros of the size of `like`."""
    frame = torch.zeros_like(like)
    top, left = ((large - small) // 2 for large, small in zip(like.shape, values.shape, strict=True))
    frame[top : top + values.shape[0], left : left + values.shape[1]] = values
    return frame
