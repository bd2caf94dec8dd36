"""The start of a linear chain at which it equals a given convolution, exactly, and every part has a gradient.

Before the middle layer stand banks of shifts: channel (i, a) is input channel i moved by a. After it stand
banks that add channel (o, c) moved by c to output o. The middle kernel shares the given one out among them:

    middle[(o, c), (i, a), b] = K[o, i, a + b + c] / N(a + b + c),

N(t) the number of triples (a, b, c) with sum t. Channels beyond the banks keep their random start on the outer
layers and zeros in the middle one: zeros on both sides would have no gradient for ever.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

import torch
from torch import Tensor, nn

from convfold.blocks.base import Block, start_conv
from convfold.errors import InvalidArgument

__all__ = ["start_chain"]

Shift = tuple[int, ...]


def _sizes(layer: nn.Module) -> tuple[int, ...]:
    return tuple(layer.kernel_size) if hasattr(layer, "kernel_size") else ()  # type: ignore[arg-type, call-overload]


def _banks(layers: list[nn.Module], dims: int) -> list[list[Shift]]:
    """The shifts reached before each layer and after the last: a 3-tap axis adds 0 or 2 at every layer."""
    reach = [0] * dims
    banks: list[list[Shift]] = [[(0,) * dims]]
    for layer in layers:
        reach = [r + (2 if k > 1 else 0) for r, k in zip(reach, _sizes(layer), strict=True)]
        banks.append([tuple(s) for s in product(*(range(0, r + 1, 2) for r in reach))])
    return banks


def _parent(shift: Shift, bank: list[Shift]) -> tuple[int, Shift]:
    """The shift of the smaller bank that `shift` is reached from, by its index, and the tap that is left."""
    limits = [max(axis) for axis in zip(*bank, strict=True)] if shift else []
    parent = tuple(min(s, limit) for s, limit in zip(shift, limits, strict=True))
    return bank.index(parent), tuple(s - p for s, p in zip(shift, parent, strict=True))


def _group(weight: Tensor, groups: int, group: int) -> Tensor:
    rows = weight.shape[0] // groups
    return weight[group * rows : (group + 1) * rows]


def _check(layer: nn.Module, needed: int, room: int) -> None:
    if needed > room:
        raise InvalidArgument(
            "the chain is too narrow to start from a given kernel",
            where=type(layer).__name__,
            got=f"{room} channels per group",
            expected=f"at least {needed}",
            hint='Raise expansion=, or use form="cl".',
        )


def _start_layer(layer: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    held = getattr(layer, "bias", None)
    if bias is None and isinstance(held, Tensor):
        bias = torch.zeros_like(held)
    start_conv(layer, weight, bias)


def _fresh(layer: nn.Module) -> Tensor:
    """A copy of the layer's own start; a nested block's comes from its equivalent kernel's shape, at random."""
    if isinstance(layer, Block):
        shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        like = next(layer.parameters())
        bound = (shape[1] * torch.Size(layer.kernel_size).numel()) ** -0.5
        return torch.empty(shape, device=like.device, dtype=like.dtype).uniform_(-bound, bound)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return weight.detach().clone()


def _front(layer: nn.Module, before: list[Shift], after: list[Shift], channels: int, groups: int) -> None:
    weight = _fresh(layer)
    for group in range(groups):
        block = _group(weight, groups, group)
        block[: channels * len(after)] = 0
        for j, shift in enumerate(after):
            parent, tap = _parent(shift, before)
            for i in range(channels):
                block[(i * len(after) + j, i * len(before) + parent, *tap)] = 1
    _start_layer(layer, weight)


def _back(
    layer: nn.Module, inner: list[Shift], outer: list[Shift], channels: int, groups: int, bias: Tensor | None
) -> None:
    """Rows (o, q') of the smaller bank collect the columns (o, q) of the larger one that lead to q'."""
    weight = _fresh(layer)
    used = channels * len(inner)
    for group in range(groups):
        block = _group(weight, groups, group)
        block[:, :used] = 0
        for j, shift in enumerate(inner):
            parent, tap = _parent(shift, outer)
            for o in range(channels):
                block[(o * len(outer) + parent, o * len(inner) + j, *tap)] = 1
    _start_layer(layer, weight, bias)


def start_chain(layers: list[nn.Module], middle: int, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    """Make the chain of `layers` compute ``conv(x, weight) + bias``.

    weight (C_out, C_in/groups, *kernel). Raises InvalidArgument when the chain is too narrow for its banks:
    2^n channels per input channel for two 3-tap layers in n dimensions, 3^n for three before the middle.
    """
    weight = weight.detach()
    dims = weight.dim() - 2
    rows, columns = weight.shape[0] // groups, weight.shape[1]
    fronts = _banks(layers[:middle], dims)
    backs = _banks(layers[:middle:-1], dims)
    for index in range(middle):
        _check(layers[index], columns * len(fronts[index + 1]), _fresh(layers[index]).shape[0] // groups)
    for index in range(len(backs) - 1):
        _check(layers[-1 - index], rows * len(backs[index + 1]), _fresh(layers[-1 - index]).shape[1])
    for index in range(middle):
        _front(layers[index], fronts[index], fronts[index + 1], columns, groups)
    for index in range(len(backs) - 1):
        last = index == 0
        _back(layers[-1 - index], backs[index + 1], backs[index], rows, groups, bias if last else None)
    core = torch.zeros_like(_fresh(layers[middle]))
    taps = list(product(*(range(k) for k in core.shape[2:])))
    ways = Counter(tuple(map(sum, zip(a, b, c, strict=True))) for a in fronts[-1] for b in taps for c in backs[-1])
    for group in range(groups):
        block, given = _group(core, groups, group), _group(weight, groups, group)
        for (j, a), b, (k, c) in product(enumerate(fronts[-1]), taps, enumerate(backs[-1])):
            tap = tuple(map(sum, zip(a, b, c, strict=True)))
            where = (
                slice(k, rows * len(backs[-1]), len(backs[-1])),
                slice(j, columns * len(fronts[-1]), len(fronts[-1])),
                *b,
            )
            block[where] = given[(slice(None), slice(None), *tap)] / ways[tap]
    _start_layer(layers[middle], core, bias if middle == len(layers) - 1 else None)
