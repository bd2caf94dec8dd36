"""Copies of a model, to run or to rewrite in its place."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["hollow", "on_meta", "twin"]

Model = TypeVar("Model", bound=nn.Module)


def twin(model: Model, replaced: dict[int, Any] | None = None) -> Model:
    """A deep copy of `model`; `replaced` gives other objects for some of its own, by identity.

    A tensor with a history that is kept as an attribute (weight_norm's old form does so after each forward) has
    no deep copy; its values are copied.
    """
    memo: dict[int, Any] = dict(replaced or {})
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
            elif type(value) is OrderedDict and not value:
                # A module has a dozen for hooks: to rebuild them is most of the work of a copy.
                memo.setdefault(id(value), OrderedDict())
    return copy.deepcopy(model, memo)


def on_meta(model: nn.Module) -> dict[int, Any]:
    """What `twin` takes to copy no numbers: each parameter and buffer, by identity, on the meta device."""
    return {id(tensor): _on_meta(tensor) for tensor in (*model.parameters(), *model.buffers())}


def _on_meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def hollow(model: Model) -> Model:
    """A deep copy of `model` without numbers: its parameters and buffers are on the meta device."""
    return twin(model, on_meta(model))
