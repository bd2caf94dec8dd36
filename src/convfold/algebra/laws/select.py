"""Selecting, permuting and shuffling channels before and after a convolution: rows and columns move."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from convfold.algebra.laws.compose import regroup
from convfold.algebra.operators import Conv, Select
from convfold.geometry import kept_groups

__all__ = ["columns_of", "rows_of", "select_after_select"]


def _tensor(index: list[int], like: Tensor) -> Tensor:
    return torch.tensor(index, device=like.device)


def rows_of(conv: Conv, select: Select) -> Conv:
    """A selection after a convolution selects its rows: ``W'[o] = W[index[o]]``, ``b'[o] = b[index[o]]``.

    Groups stay wherever the selection stays inside them.
    """
    groups = kept_groups(conv.groups, select.index, conv.out_channels, select.out_channels)
    index = _tensor(list(select.index), conv.weight)
    weight = regroup(conv.weight, conv.groups, groups).index_select(0, index)
    bias = None if conv.bias is None else conv.bias.index_select(0, index)
    return Conv(weight, bias, conv.window, groups, conv.padding_mode)


def columns_of(select: Select, conv: Conv) -> Conv:
    """A selection before a convolution moves its columns: ``W'[:, c] = sum_{j: index[j]=c} W[:, j]``.

    Channels that are not selected get zero columns; groups stay wherever the selection stays inside them.
    """
    groups = kept_groups(conv.groups, select.index, select.in_channels, select.out_channels)
    wide, narrow = select.in_channels // groups, select.out_channels // groups
    weight = regroup(conv.weight, conv.groups, groups).reshape(groups, -1, narrow, prod(conv.weight.shape[2:]))
    local = _tensor([source % wide for source in select.index], weight).reshape(groups, narrow)
    moves = torch.nn.functional.one_hot(local, wide).to(weight)
    moved = torch.einsum("gojk,gji->goik", weight, moves)
    moved = moved.reshape(conv.out_channels, wide, *conv.weight.shape[2:])
    return Conv(moved, conv.bias, conv.window, groups, conv.padding_mode)


def select_after_select(first: Select, second: Select) -> Select:
    """``index'[o] = first[second[o]]``."""
    return Select(tuple(first.index[j] for j in second.index), first.in_channels, first.dims)
