"""Branches: convolutions that are added, or joined on the channel axis, are one convolution."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd, lcm

import torch
import torch.nn.functional as F
from torch import Tensor

from convfold.algebra.laws.compose import add_biases, regroup
from convfold.algebra.operators import Conv, ConvTranspose, Select
from convfold.errors import NotFoldable, Refusal
from convfold.geometry import Placement, Window, common_groups, has_padding, union

__all__ = ["add_convs", "add_transposed", "join_blocks", "join_rows", "place", "regroup_rows"]


def place(kernel: Tensor, placements: tuple[Placement, ...]) -> Tensor:
    """Multi-scale embedding: ``K'[start + step*j] = K[j]``, zero elsewhere; (O, I, *k) -> (O, I, *sizes)."""
    taps = kernel.shape[2:]
    if all(p.step == 1 or k == 1 for p, k in zip(placements, taps, strict=True)):
        edges = [(p.start, p.size - p.start - k) for p, k in zip(placements, taps, strict=True)]
        flat = [edge for pair in reversed(edges) for edge in pair]
        return F.pad(kernel, flat) if any(flat) else kernel
    larger = kernel.new_zeros(*kernel.shape[:2], *(p.size for p in placements))
    where = tuple(slice(p.start, p.start + p.step * (k - 1) + 1, p.step) for p, k in zip(placements, taps, strict=True))
    larger[(slice(None), slice(None), *where)] = kernel
    return larger


def _common_mode(convs: tuple[Conv, ...], operator: str) -> str:
    modes = {conv.padding_mode for conv in convs if has_padding(conv.window)}
    if len(modes) > 1:
        raise NotFoldable(Refusal(operator, f"the branches pad in different modes {sorted(modes)}"))
    return modes.pop() if modes else "zeros"


def _aligned(convs: Sequence[Conv | ConvTranspose]) -> tuple[Window, list[Tensor]]:
    window, placements = union(tuple(conv.window for conv in convs))
    return window, [place(c.weight, p) for c, p in zip(convs, placements, strict=True)]


def add_convs(convs: tuple[Conv, ...]) -> Conv:
    """Additivity: ``sum_j (W_j * x + b_j) = (sum_j W_j) * x + sum_j b_j`` on the common window and groups.

    Raises NotFoldable when strides, output sizes or padding modes differ.
    """
    mode = _common_mode(convs, "sum")
    window, kernels = _aligned(convs)
    groups = common_groups(tuple(conv.groups for conv in convs))
    weight = regroup(kernels[0], convs[0].groups, groups)
    for kernel, conv in zip(kernels[1:], convs[1:], strict=True):
        weight = weight + regroup(kernel, conv.groups, groups)
    return Conv(weight, add_biases(*(conv.bias for conv in convs)), window, groups, mode)


def add_transposed(convs: tuple[ConvTranspose, ...]) -> ConvTranspose:
    """``sum_j (W_j^T x + b_j) = (sum_j W_j)^T x + sum_j b_j``: windows merge as those of the transposes do."""
    window, kernels = _aligned(convs)
    groups = common_groups(tuple(conv.groups for conv in convs))
    weight = regroup(kernels[0], convs[0].groups, groups)
    for kernel, conv in zip(kernels[1:], convs[1:], strict=True):
        weight = weight + regroup(kernel, conv.groups, groups)
    return ConvTranspose(weight, add_biases(*(conv.bias for conv in convs)), window, groups)


def _bias(conv: Conv) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias


def _stacked_biases(convs: tuple[Conv, ...]) -> Tensor | None:
    if all(conv.bias is None for conv in convs):
        return None
    return torch.cat([_bias(conv) for conv in convs])


def join_rows(convs: tuple[Conv, ...]) -> Conv:
    """``concat_j (W_j * x + b_j) = [W_1; W_2; ...] * x + [b_1; b_2; ...]``: dense rows, stacked.

    Grouped branches of one input become dense here; `regroup_rows` keeps their groups.
    """
    if len(convs) == 1:
        return convs[0]
    mode = _common_mode(convs, "concat")
    window, kernels = _aligned(convs)
    rows = [regroup(kernel, conv.groups, 1) for kernel, conv in zip(kernels, convs, strict=True)]
    return Conv(torch.cat(rows), _stacked_biases(convs), window, 1, mode)


def join_blocks(convs: tuple[Conv, ...]) -> Conv | None:
    """Branches that read disjoint blocks in order are the groups of one convolution.

    ``concat_j (W_j * x_j) = diag(W_1, W_2, ...) * concat_j x_j``, with groups as narrow as all branches allow.
    Returns None where no groups of one size cover them: the blocks widen differently.
    """
    width = lcm(*(conv.in_channels // conv.groups for conv in convs))
    if gcd(*(conv.in_channels for conv in convs)) % width:
        return None
    groups = [conv.in_channels // width for conv in convs]
    if len({conv.out_channels // g for conv, g in zip(convs, groups, strict=True)}) > 1:
        return None
    mode = _common_mode(convs, "concat")
    window, kernels = _aligned(convs)
    blocks = [regroup(k, conv.groups, g) for k, conv, g in zip(kernels, convs, groups, strict=True)]
    return Conv(torch.cat(blocks), _stacked_biases(convs), window, sum(groups), mode)


def regroup_rows(convs: tuple[Conv, ...]) -> tuple[Conv, Select]:
    """Concatenated branches of g groups each: one convolution of g groups, then a permutation.

    Row r of group q of branch j moves to group q; the permutation returns the branches' own order.
    Raises NotFoldable when the branches have different groups.
    """
    groups = convs[0].groups
    if any(conv.groups != groups for conv in convs):
        raise NotFoldable(Refusal("concat", "the branches have different groups", hint="Join them as dense rows."))
    mode = _common_mode(convs, "concat")
    window, kernels = _aligned(convs)
    blocks = [k.reshape(groups, -1, *k.shape[1:]) for k in kernels]
    weight = torch.cat(blocks, dim=1).reshape(-1, *kernels[0].shape[1:])
    widths = [conv.out_channels // groups for conv in convs]
    total, index, start = sum(widths), [], 0
    for width in widths:
        index += [q * total + start + r for q in range(groups) for r in range(width)]
        start += width
    order = Select(tuple(index), total * groups, convs[0].dims)
    bias = None
    if any(conv.bias is not None for conv in convs):
        bias = torch.cat([_bias(conv).reshape(groups, -1) for conv in convs], dim=1).reshape(-1)
    return Conv(weight, bias, window, groups, mode), order
