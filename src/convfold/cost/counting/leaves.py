"""The tensors in the arguments and results of operators and modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["tensors"]

_PLAIN = frozenset(
    {
        int,
        float,
        bool,
        complex,
        str,
        type(None),
        torch.dtype,
        torch.device,
        torch.layout,
        torch.memory_format,
        torch.Size,
    }
)


def tensors(tree: object) -> list[Tensor]:
    """Every tensor in `tree`, in order, one that is there twice twice.

    As ``torch.utils._pytree.tree_leaves``, many times faster on the plain containers that operators take.
    """
    found: list[Tensor] = []
    _collect(tree, found)
    return found


def _collect(value: Any, found: list[Tensor]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
        return
    form = type(value)
    if form in _PLAIN:
        return
    if form is tuple or form is list:
        for part in value:
            _collect(part, found)
    elif form is dict:
        for part in value.values():
            _collect(part, found)
    else:
        found.extend(leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor))
